"""How long after a player has written a sound does a reader hold it?

A C program plays a ramp, in which every frame says which it is, and notes when its callback wrote
each quantum. A contender reads the sink's monitor and notes when it held which frames. The graph's
quantum is forced to 64, 256 and 1024 frames. The floor is a C reader on libpipewire with a ring
and an eventfd, and nothing else.

  python -m benchmarks.capture_latency
"""

from __future__ import annotations

import functools
import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.graph import bench_graph
from .kit.listening import FLOOR, READERS, STAGEBOX, Heard, Listening
from .kit.reader import SETTINGS
from .kit.rounds import take_turns
from .kit.script import Options, run

if TYPE_CHECKING:
    from .kit.rounds import Turns

QUANTA: Final = (64, 256, 1024)
TURN_S: Final = 1.0
P50_MS, P99_MS = 0.15, 0.6

p50, p99 = attrgetter("p50"), attrgetter("p99")


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    with bench_graph() as graph:
        listening = Listening(graph, options.scratch)
        turns = {}
        for quantum in QUANTA:
            graph.force_quantum(quantum)
            turns[quantum] = take_turns(
                READERS,
                functools.partial(listening.turn, quantum=quantum, seconds=TURN_S * options.scale),
                options.rounds,
                f"latency at {quantum} frames",
            )
        version = graph.version
    return Answer(
        name="capture_latency",
        question="How long after a player has written a sound does a reader hold it?",
        how="From a quantum's write in the player's callback to the reader's holding it, ms. "
        + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items())
        + ".",
        header=("reader", *(f"{p} at {q}" for q in QUANTA for p in ("p50", "p99"))),
        rows=[
            (name, *(turns[q].spread(name, at).text() for q in QUANTA for at in (p50, p99)))
            for name in READERS
        ],
        targets=[target for q in QUANTA for target in targets(q, turns[q])],
        panels=[
            Panel(
                f"p50 at a quantum of {quantum}",
                "ms",
                {name: [p50(heard) for heard in turns[quantum][name]] for name in READERS},
            )
            for quantum in QUANTA
        ],
        figures={
            f"{name} at {quantum}": [heard.figures() for heard in turns[quantum][name]]
            for quantum in QUANTA
            for name in READERS
        },
        machine=machine(version),
    )


def targets(quantum: int, turns: Turns[str, Heard]) -> list[Target]:
    """What stagebox was to reach at a quantum."""
    return [
        Target(
            f"{name} at {quantum} at most the floor's + {most} ms",
            f"{difference.text(3)} ms",
            difference.median <= most,
        )
        for name, of, most in (("p50", p50, P50_MS), ("p99", p99, P99_MS))
        for difference in (turns.difference(STAGEBOX, FLOOR, of),)
    ]


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
