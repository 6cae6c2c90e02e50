"""What does a lock-free ring cost beside a plain copy?

The ring of the C core, blocks of 64 to 4096 stereo frames: each is written and read, by one thread,
so that what is measured is the work and not two processors' caches. Beside it the same two copies
through a buffer of the same size.

  python -m benchmarks.ring
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from .kit.answer import Answer, Panel, Target, machine
from .kit.floor import build, pipewire_version
from .kit.rounds import Spread, take_turns
from .kit.script import Options, run

BLOCKS: Final = ("64", "128", "256", "512", "1024", "2048", "4096")
TURN_S: Final = 0.3
LEAST: Final = 0.8

Speeds = dict[str, dict[str, float]]


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    program = build("ring", options.scratch, "libpipewire-0.3")

    def turn(_: str) -> Speeds:
        command = [str(program), str(TURN_S * options.scale)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        speeds: Speeds = json.loads(done.stdout)
        return speeds

    speeds = take_turns(["ring"], turn, options.rounds, "ring")["ring"]
    ratios = {
        block: [turn[block]["ring"] / turn[block]["memcpy"] for turn in speeds] for block in BLOCKS
    }
    return Answer(
        name="ring",
        question="What does a lock-free ring cost beside a plain copy?",
        how="Millions of stereo frames a second written and read, in blocks.",
        header=("frames in a block", "ring, 10⁶/s", "memcpy, 10⁶/s", "ratio"),
        rows=[
            (
                block,
                *(
                    Spread.of([turn[block][what] / 1e6 for turn in speeds]).text(0)
                    for what in ("ring", "memcpy")
                ),
                Spread.of(ratios[block]).text(),
            )
            for block in BLOCKS
        ],
        targets=[
            Target(
                f"{block} frames: at least {LEAST} x memcpy", ratio.text(), ratio.median >= LEAST
            )
            for block in BLOCKS
            for ratio in (Spread.of(ratios[block]),)
        ],
        panels=[Panel("the ring's speed", "of memcpy's, by frames in a block", ratios)],
        figures={"rounds": speeds},
        machine=machine(pipewire_version()),
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
