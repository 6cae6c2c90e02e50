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

from .kit.answer import Answer, Target
from .kit.graph import bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run
from .kit.talker import QUANTUM
from .kit.talking import Said, Talking, answer

BLOCKS: Final = {"5 ms": 240, "20 ms": 960}
STAGEBOX: Final = "stagebox"
NAMES: Final = (STAGEBOX, "pacat", "pw-cat")
TURN_S: Final = {STAGEBOX: 6.0, "pacat": 2.0, "pw-cat": 2.0}
"""Five of stagebox's in either length are the minute in which nothing may run dry."""
MOST: Final = 0.6


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
        best = min(
            NAMES[1:], key=lambda name: turns.spread((name, length), attrgetter("p50")).median
        )
        ratio = turns.ratio((STAGEBOX, length), (best, length), attrgetter("p50"))
        underruns = sum(said.underruns for said in turns[STAGEBOX, length])
        late_ms = max(
            (said.late_ms for said in turns[STAGEBOX, length] if said.underruns), default=0
        )
        excuse = f", with blocks handed over {late_ms:.0f} ms late" if underruns else ""
        talked_s = options.rounds * TURN_S[STAGEBOX] * options.scale
        targets += [
            Target(
                f"{length}: p50 at most {MOST} x {best}'s, the best of the others",
                ratio.text(),
                ratio.median <= MOST,
            ),
            Target(
                f"{length}: 0 underruns in {talked_s:g} s", f"{underruns}{excuse}", underruns == 0
            ),
        ]
    return answer(
        "voice_in_latency",
        "How long after a block is pushed does an application record it?",
        turns,
        targets,
        version,
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
