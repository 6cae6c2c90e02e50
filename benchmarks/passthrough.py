"""How long after an Opus packet is handed to a sender does an application record it?

Packets of 5, 10 and 20 ms go to the pump at the pace of real time; a C program on libpipewire
records the microphone. What a packet decodes to is known, and found in the recording sample by
sample. Beside it blocks of the same length are pushed as PCM. The quantum is 256 frames.

  python -m benchmarks.passthrough
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Final

from .kit import voice
from .kit.answer import Answer, Target
from .kit.graph import bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run
from .kit.talker import QUANTUM
from .kit.talking import Said, Talking, answer
from .kit.timeline import RATE_HZ

BLOCKS: Final = {"5 ms": 240, "10 ms": 480, "20 ms": 960}
PUSHED: Final = "stagebox"
PASSED: Final = "stagebox pump"
NAMES: Final = (PASSED, PUSHED)
TURN_S: Final = 2.0


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    seconds = TURN_S * options.scale
    packets = {
        length: voice.packets(block, round(seconds * RATE_HZ / block))
        for length, block in BLOCKS.items()
    }
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        talking = Talking(graph, options.scratch)

        def turn(case: tuple[str, str]) -> Said:
            name, length = case
            if name == PUSHED:
                return talking.turn(name, BLOCKS[length], seconds)
            expected = voice.decoded(packets[length], BLOCKS[length])
            return talking.passthrough(packets[length], expected)

        cases = [(name, length) for length in BLOCKS for name in NAMES]
        turns = take_turns(cases, turn, options.rounds, "passthrough")
        version = graph.version
    targets = []
    for length, block in BLOCKS.items():
        more = turns.difference((PASSED, length), (PUSHED, length), attrgetter("p50"))
        most = 1000 * block / RATE_HZ + 1
        targets.append(
            Target(
                f"{length}: p50 at most voice in + a packet + 1 ms, {most:g} ms more",
                f"{more.text()} ms more",
                more.median <= most,
            )
        )
    return answer(
        "passthrough",
        "How long after a sender got a packet does an application record it?",
        turns,
        targets,
        version,
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
