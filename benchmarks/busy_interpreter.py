"""What is lost when the interpreter is busy?

Two threads compute in pure Python, without a pause, beside the reader in its process. A C program
plays a ramp, so that every frame lost shows, and how old the others were when the reader had them.
The quantum is 256 frames.

  python -m benchmarks.busy_interpreter
"""

from __future__ import annotations

import sys
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.busy import spinning
from .kit.graph import bench_graph
from .kit.listening import FLOOR, READERS, STAGEBOX, Heard, Listening
from .kit.reader import HURRIED, LEAST, SETTINGS, WARM_UP_S
from .kit.rounds import Spread, take_turns
from .kit.script import Options, run
from .kit.timeline import RATE_HZ

NAMES: Final = (*READERS[:2], HURRIED, LEAST, *READERS[2:])
QUANTUM: Final = 256
BUSY_THREADS: Final = 2
TURN_S: Final = 1.5
LONG_TURN_S: Final = 6.0
"""Five of these are the half minute in which nothing may be lost."""
OLDEST_MS: Final = 40.0


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    seconds = {
        name: (LONG_TURN_S if name in {STAGEBOX, FLOOR} else TURN_S) * options.scale
        for name in NAMES
    }
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        listening = Listening(graph, options.scratch)

        def turn(name: str) -> Heard:
            if name != FLOOR:
                return listening.turn(name, QUANTUM, seconds[name], BUSY_THREADS)
            with spinning(1, BUSY_THREADS):
                return listening.turn(name, QUANTUM, seconds[name])

        turns = take_turns(NAMES, turn, options.rounds, "busy interpreter")
        version = graph.version
    dropped = sum(heard.dropped for heard in turns[STAGEBOX])
    ours, floors = (sum(heard.lost for heard in turns[name]) for name in (STAGEBOX, FLOOR))
    age = turns.spread(STAGEBOX, age_ms)

    def missing(name: str) -> list[float]:
        due = (seconds[name] - WARM_UP_S) * RATE_HZ
        return [max(0.0, 100 * (1 - heard.delivered / due)) for heard in turns[name]]

    return Answer(
        name="busy_interpreter",
        question="What is lost when the interpreter is busy?",
        how=f"{BUSY_THREADS} threads computing in pure Python beside the reader, "
        f"{options.rounds} turns of {seconds[STAGEBOX]:g} s for stagebox. The floor, which has no "
        "interpreter, runs beside a process with such threads. Lost on the way: also in cycles "
        "that the graph skipped, as the machine had no time for them. Not delivered: of the "
        "frames due in that time, lost or still on their way. Age: of a block's oldest frame. "
        f"{HURRIED}: after sys.setswitchinterval(0.001). "
        f"{LEAST}: one call into C that waits and copies, and nothing else. "
        + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items())
        + ".",
        header=("reader", "frames lost on the way", "not delivered, %", "age p50, ms", "p99, ms"),
        rows=[
            (
                name,
                turns.spread(name, lambda heard: heard.lost).text(0),
                Spread.of(missing(name)).text(1),
                turns.spread(name, lambda heard: heard.age(50)).text(1),
                turns.spread(name, age_ms).text(1),
            )
            for name in NAMES
        ],
        targets=[
            Target("0 frames dropped by the reader", str(dropped), dropped == 0),
            Target("no more lost on the way than the floor", f"{ours} to {floors}", ours <= floors),
            Target(
                f"age p99 at most {OLDEST_MS:g} ms", f"{age.text()} ms", age.median <= OLDEST_MS
            ),
        ],
        panels=[
            Panel(
                "not delivered",
                "% of the frames",
                {name: missing(name) for name in NAMES},
            ),
            Panel(
                "age of the oldest frame, p99",
                "ms",
                {name: [age_ms(heard) for heard in turns[name]] for name in NAMES},
            ),
        ],
        figures={name: [heard.figures() for heard in turns[name]] for name in NAMES},
        machine=machine(version),
    )


def age_ms(heard: Heard) -> float:
    """What one of a hundred blocks exceeds, ms."""
    return heard.age(99)


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
