"""What does another stream cost in a process that has some?

1, 4, 16 and 64 captures and as many microphones in one process, at a quantum of 256 frames. Every
capture is read as its frames come, by one thread, and every microphone gets 20 ms at a time.

  python -m benchmarks.many_streams
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.crowd import QUANTUM
from .kit.graph import bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run

COUNTS: Final = (1, 4, 16, 64)
TURN_S: Final = 1.0
MOST_CPU: Final = 1.1
MOST_KIB: Final = 2048
MOST_OPEN_MS: Final = 20

Figures = dict[str, Any]


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)

        def turn(count: int) -> Figures:
            command = [sys.executable, "-m", "benchmarks.kit.crowd", str(count)]
            done = subprocess.run(
                [*command, "--seconds", str(TURN_S * options.scale)],
                env=graph.env,
                capture_output=True,
                text=True,
                check=True,
            )
            figures: Figures = json.loads(done.stdout)
            return figures

        turns = take_turns(COUNTS, turn, options.rounds, "streams")
        version = graph.version
    most, least = max(COUNTS), min(COUNTS)
    threads = sorted({figure["threads"] for count in COUNTS for figure in turns[count]})
    cpu = turns.ratio(most, least, lambda figure: figure["cpu"])
    kib = turns.spread(most, lambda figure: figure["kib"])
    open_ms = turns.spread(most, lambda figure: figure["open_ms"])
    names = {count: f"{count} + {count}" for count in COUNTS}
    return Answer(
        name="many_streams",
        question="What does another stream cost in a process that has some?",
        how=f"Captures and as many microphones in one process, a quantum of {QUANTUM} frames.",
        header=(
            "captures + microphones",
            "threads",
            "CPU a stream, % of a core",
            "memory a stream, KiB",
            "open, ms a stream",
            "delivered, %",
        ),
        rows=[
            (
                names[count],
                ", ".join(map(str, sorted({figure["threads"] for figure in turns[count]}))),
                turns.spread(count, lambda figure: 100 * figure["cpu"]).text(3),
                turns.spread(count, lambda figure: figure["kib"]).text(0),
                turns.spread(count, lambda figure: figure["open_ms"]).text(1),
                turns.spread(count, lambda figure: 100 * figure["delivered"]).text(1),
            )
            for count in COUNTS
        ],
        targets=[
            Target("as many threads, however many streams", str(threads), len(threads) == 1),
            Target(
                f"CPU a stream at {most} at most {MOST_CPU} x that at {least}",
                cpu.text(),
                cpu.median <= MOST_CPU,
            ),
            Target("at most 2 MiB a stream", f"{kib.text(0)} KiB", kib.median <= MOST_KIB),
            Target(
                "at most 20 ms to open one", f"{open_ms.text()} ms", open_ms.median <= MOST_OPEN_MS
            ),
        ],
        panels=[
            Panel(
                title,
                unit,
                {
                    names[count]: [figure[key] * scale for figure in turns[count]]
                    for count in COUNTS
                },
            )
            for title, unit, key, scale in (
                ("CPU a stream", "% of a core", "cpu", 100),
                ("memory a stream", "KiB", "kib", 1),
                ("open", "ms a stream", "open_ms", 1),
            )
        ],
        figures={names[count]: turns[count] for count in COUNTS},
        machine=machine(version),
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
