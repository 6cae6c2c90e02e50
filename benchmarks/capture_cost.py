"""What does it cost to read everything a desktop plays, a quantum at a time?

CPU of the reading process and its helpers, and of the PulseAudio emulation where that is what
serves it, while a C program plays. The quantum is 256 frames: 187 wake-ups a second. The floor is a
C reader on libpipewire with a ring and an eventfd, and nothing else. "least Python" is a loop of
one call into this project's C that waits and copies into the same array: what Python itself takes.

With a block that it holds every reader does the same: it adds its length to a count. A log of every
block, as the latencies need it, would cost some thirty microseconds in Python and be measured with
the readers. The C floor writes its log, 24 bytes a block, and its frames are counted from that.
"read" is the share that was counted of what there was from the warm-up to the end: by the numbers
of the player's frames, looked up in one block at either end, or by the time between these two,
whichever says more. Silence is counted, too: where the player was late it is what there is to read.
A turn without sound at either end fails.

  python -m benchmarks.capture_cost
"""

from __future__ import annotations

import sys
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.graph import bench_graph
from .kit.listening import FLOOR, READERS, STAGEBOX, Cost, Listening
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
            lambda name: listening.cost(name, QUANTUM, TURN_S * options.scale),
            options.rounds,
            "cost",
        )
        version = graph.version
    return Answer(
        name="capture_cost",
        question="What does it cost to read everything a desktop plays?",
        how=f"CPU in % of a core, reading every quantum of {QUANTUM} frames and adding up their "
        "number; of the frames there were, % were read. "
        + "; ".join(f"{name}: {text}" for name, text in SETTINGS.items())
        + ".",
        header=(
            "reader",
            "process",
            "pipewire-pulse",
            "together",
            "stagebox's share of it",
            "read",
        ),
        rows=[
            (
                name,
                turns.spread(name, own).text(),
                turns.spread(name, server).text(),
                turns.spread(name, cost).text(),
                turns.ratio(STAGEBOX, name, cost).text(),
                turns.spread(name, read).text(1),
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
                {name: [cost(taken) for taken in turns[name]] for name in NAMES},
            )
        ],
        figures={name: [taken.figures() for taken in turns[name]] for name in NAMES},
        machine=machine(version),
    )


def own(taken: Cost) -> float:
    """Of the process and its helpers, % of a core."""
    return 100 * taken.cpu


def server(taken: Cost) -> float:
    """Of the PulseAudio emulation, % of a core."""
    return 100 * taken.server_cpu


def cost(taken: Cost) -> float:
    """All of it."""
    return own(taken) + server(taken)


def read(taken: Cost) -> float:
    """Of the frames there were, %."""
    return 100 * taken.read.share


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
