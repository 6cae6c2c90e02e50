"""How long until a program that has just started holds an open stream?

The import of stagebox after numpy's, in a new interpreter each time; what the first open of a
capture loads; and that open, beside a C program that calls the same functions of libpipewire. That
program's libraries are loaded before it begins, so its open is compared with ours once loaded.

  python -m benchmarks.start
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.floor import build
from .kit.graph import SINK, bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES: Final = 3
FLOOR: Final = "floor (C)"
STAGEBOX: Final = "stagebox"
REST_S: Final = 0.3
"""Before each: daemon and session manager are done with the one before."""
MOST_IMPORT_MS: Final = 30.0
MOST_OPEN: Final = 1.2

PROGRAM: Final = """
import json, time
begin = time.perf_counter()
import numpy
there = time.perf_counter()
import stagebox
imported = time.perf_counter()
stagebox._native._extension()
loaded = time.perf_counter()
capture = stagebox.open_audio_capture(target="TARGET", quantum_frames=256)
opened = time.perf_counter()
print(json.dumps({"numpy": there - begin, "import": imported - there,
                  "load": loaded - imported, "open": opened - loaded}))
"""

Times = dict[str, float]


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    with bench_graph() as graph:
        graph.force_quantum(256)
        floor = build("reader", options.scratch, "libpipewire-0.3")
        commands = {
            STAGEBOX: [sys.executable, "-c", PROGRAM.replace("TARGET", SINK)],
            FLOOR: [str(floor), SINK, "256", "0.1", str(options.scratch / "log")],
        }

        # An installed package has its bytecode; what may not be written is made each time.
        environment = {k: v for k, v in graph.env.items() if k != "PYTHONDONTWRITEBYTECODE"}

        def once(name: str) -> Times:
            time.sleep(REST_S)
            done = subprocess.run(
                commands[name], env=environment, capture_output=True, text=True, check=True
            )
            times: Times = json.loads(done.stdout)
            return times if name == STAGEBOX else {"open": times["open_s"]}

        turns = take_turns(list(commands), once, TIMES * options.rounds, "start")
        version = graph.version

    def ms(what: str) -> list[float]:
        return [1000 * times[what] for times in turns[STAGEBOX]]

    imported = turns.spread(STAGEBOX, in_ms("import"))
    opened = turns.ratio(STAGEBOX, FLOOR, lambda times: times["open"])
    rows = [
        ("stagebox: import, after numpy's", imported.text()),
        *(
            (name, turns.spread(key, in_ms(what)).text())
            for name, key, what in (
                ("numpy: import", STAGEBOX, "numpy"),
                ("stagebox: loading the extension and libpipewire", STAGEBOX, "load"),
                ("stagebox: first open, once loaded", STAGEBOX, "open"),
                ("floor: open", FLOOR, "open"),
            )
        ),
    ]
    return Answer(
        name="start",
        question="How long until a program that has just started holds an open stream?",
        how="ms. Both opens begin with pw_init, the libraries loaded: for a C program that happens "
        "before it begins.",
        header=("what", "ms"),
        rows=rows,
        targets=[
            Target(
                f"import at most {MOST_IMPORT_MS:g} ms beyond numpy's",
                f"{imported.text()} ms",
                imported.median <= MOST_IMPORT_MS,
            ),
            Target(
                f"first open at most {MOST_OPEN} x the floor's",
                opened.text(),
                opened.median <= MOST_OPEN,
            ),
        ],
        panels=[
            Panel(
                "import and open",
                "ms",
                {
                    "import": ms("import"),
                    "load": ms("load"),
                    "first open": ms("open"),
                    FLOOR: [1000 * times["open"] for times in turns[FLOOR]],
                },
            )
        ],
        figures={name: turns[name] for name in commands},
        machine=machine(version),
    )


def in_ms(what: str) -> Callable[[Times], float]:
    """Return what takes that time out of a process's times."""
    return lambda times: 1000 * times[what]


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
