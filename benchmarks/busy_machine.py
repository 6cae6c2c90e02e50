"""What is lost when the machine is busy?

As many processes compute without a pause as make two for each processor. A C program plays a ramp,
so that every frame lost shows; and frames of silence are cycles that the player itself missed. The
quantum is 256 frames. The floor is a C reader on libpipewire with a ring and an eventfd.

  python -m benchmarks.busy_machine
"""

from __future__ import annotations

import os
import sys
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.busy import spinning
from .kit.graph import bench_graph
from .kit.listening import FLOOR, READERS, STAGEBOX, Heard, Listening
from .kit.reader import SETTINGS, WARM_UP_S
from .kit.rounds import Spread, take_turns
from .kit.script import Options, run

QUANTUM: Final = 256
TURN_S: Final = 2.0
LONG_TURN_S: Final = 6.0
"""Of those that are compared: half a minute each."""


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    seconds = {
        name: (LONG_TURN_S if name in {STAGEBOX, FLOOR} else TURN_S) * options.scale
        for name in READERS
    }
    spinners = 2 * (os.cpu_count() or 1)
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        listening = Listening(graph, options.scratch)

        def turn(name: str) -> Heard:
            with spinning(spinners):
                return listening.turn(name, QUANTUM, seconds[name])

        turns = take_turns(READERS, turn, options.rounds, "busy machine")
        version = graph.version
    ours, floors = (sum(heard.lost for heard in turns[name]) for name in (STAGEBOX, FLOOR))

    def lost(name: str) -> list[float]:
        return [heard.lost / (seconds[name] - WARM_UP_S) for heard in turns[name]]

    return Answer(
        name="busy_machine",
        question="What is lost when the machine is busy?",
        how=f"{spinners} processes computing, {options.rounds} turns of "
        f"{seconds[STAGEBOX]:g} s for stagebox and the floor. Lost: frames of the ramp that never "
        "came, be it that the reader's cycle was missed or its ring was full. "
        + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items())
        + ".",
        header=("reader", "lost, frames a second", "latency p50, ms", "p99, ms"),
        rows=[
            (
                name,
                Spread.of(lost(name)).text(0),
                turns.spread(name, lambda heard: heard.p50).text(),
                turns.spread(name, lambda heard: heard.p99).text(),
            )
            for name in READERS
        ],
        targets=[Target("no more lost than the floor", f"{ours} to {floors}", ours <= floors)],
        panels=[
            Panel(
                "lost",
                "frames a second",
                {name: lost(name) for name in READERS},
            ),
            Panel(
                "latency, p99",
                "ms",
                {name: [heard.p99 for heard in turns[name]] for name in READERS},
            ),
        ],
        figures={name: [heard.figures() for heard in turns[name]] for name in READERS},
        machine=machine(version),
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
