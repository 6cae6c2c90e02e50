"""What does it cost to read everything a desktop plays, a quantum at a time?

CPU of the reading process and its helpers, and of the PulseAudio emulation where that is what
serves it, while a C program plays. The quantum is 256 frames: 187 wake-ups a second. The floor is a
C reader on libpipewire with a ring and an eventfd, and nothing else. "least Python" is a loop of
one call into this project's C that waits and copies into the same array: what Python itself takes.

  python -m benchmarks.capture_cost
"""

from __future__ import annotations

import sys
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.graph import bench_graph
from .kit.listening import FLOOR, READERS, STAGEBOX, Heard, Listening
from .kit.reader import LEAST, SETTINGS
from .kit.rounds import take_turns
from .kit.script import Options, run

NAMES: Final = (*READERS[:2], LEAST, *READERS[2:])
QUANTUM: Final = 256
TURN_S: Final = 2.0
MOST: Final = {FLOOR: 2.0, "sounddevice": 0.5, "soundcard": 0.25}
"""What stagebox may cost, as a share of another's."""


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        listening = Listening(graph, options.scratch)
        turns = take_turns(
            NAMES,
            lambda name: listening.turn(name, QUANTUM, TURN_S * options.scale),
            options.rounds,
            "cost",
        )
        version = graph.version
    return Answer(
        name="capture_cost",
        question="What does it cost to read everything a desktop plays?",
        how=f"CPU in % of a core, reading every quantum of {QUANTUM} frames. "
        + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items())
        + ".",
        header=("reader", "process", "pipewire-pulse", "together", "stagebox's share of it"),
        rows=[
            (
                name,
                turns.spread(name, own).text(),
                turns.spread(name, server).text(),
                turns.spread(name, cost).text(),
                turns.ratio(STAGEBOX, name, cost).text(),
            )
            for name in NAMES
        ],
        targets=[
            Target(f"at most {most} x {other}", ratio.text(), ratio.median <= most)
            for other, most in MOST.items()
            for ratio in (turns.ratio(STAGEBOX, other, cost),)
        ],
        panels=[
            Panel(
                "the process and its server",
                "% of a core",
                {name: [cost(heard) for heard in turns[name]] for name in NAMES},
            )
        ],
        figures={name: [heard.figures() for heard in turns[name]] for name in NAMES},
        machine=machine(version),
    )


def own(heard: Heard) -> float:
    """Of the process and its helpers, % of a core."""
    return 100 * heard.cpu


def server(heard: Heard) -> float:
    """Of the PulseAudio emulation, % of a core."""
    return 100 * heard.server_cpu


def cost(heard: Heard) -> float:
    """All of it."""
    return own(heard) + server(heard)


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
