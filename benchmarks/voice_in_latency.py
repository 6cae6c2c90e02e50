"""How long after a block is pushed does an application record it?

A process hands over blocks of 5 or 20 ms at the pace of real time; a C program on libpipewire
records the microphone and notes when it held which frames. stagebox is a microphone; the others
play into a null sink whose monitor is remapped to a source, as people do without it. The quantum
is 256 frames.

  python -m benchmarks.voice_in_latency
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.graph import bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run
from .kit.talker import QUANTUM, SETTINGS
from .kit.talking import Said, Talking

BLOCKS: Final = {"5 ms": 240, "20 ms": 960}
STAGEBOX: Final = "stagebox"
NAMES: Final = (STAGEBOX, "pacat", "pw-cat")
TURN_S: Final = {STAGEBOX: 12.0, "pacat": 4.0, "pw-cat": 4.0}
MOST: Final = 0.6

p50, p99 = attrgetter("p50"), attrgetter("p99")


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        talking = Talking(graph, options.scratch)

        def turn(case: tuple[str, str]) -> Said:
            name, length = case
            return talking.turn(name, BLOCKS[length], TURN_S[name] * options.scale)

        cases = [(name, length) for length in BLOCKS for name in NAMES]
        turns = take_turns(cases, turn, options.rounds, "voice in")
        version = graph.version
    targets = []
    for length in BLOCKS:
        best = min(NAMES[1:], key=lambda name: turns.spread((name, length), p50).median)
        ratio = turns.ratio((STAGEBOX, length), (best, length), p50)
        underruns = sum(said.underruns for said in turns[STAGEBOX, length])
        talked_s = options.rounds * TURN_S[STAGEBOX] * options.scale
        targets += [
            Target(
                f"{length}: p50 at most {MOST} x {best}'s, the best of the others",
                ratio.text(),
                ratio.median <= MOST,
            ),
            Target(f"{length}: 0 underruns in {talked_s:g} s", str(underruns), underruns == 0),
        ]
    return Answer(
        name="voice_in_latency",
        question="How long after a block is pushed does an application record it?",
        how="From handing a block over to the recorder's holding its first frame, ms. "
        + "; ".join(f"{name}: {SETTINGS[name]}" for name in NAMES)
        + ".",
        header=("microphone", *(f"{p}, {length}" for length in BLOCKS for p in ("p50", "p99"))),
        rows=[
            (
                name,
                *(
                    turns.spread((name, length), at).text()
                    for length in BLOCKS
                    for at in (p50, p99)
                ),
            )
            for name in NAMES
        ],
        targets=targets,
        panels=[
            Panel(
                f"p50, blocks of {length}",
                "ms",
                {name: [p50(said) for said in turns[name, length]] for name in NAMES},
            )
            for length in BLOCKS
        ],
        figures={
            f"{name}, {length}": [said.figures() for said in turns[name, length]]
            for name, length in cases
        },
        machine=machine(version),
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
