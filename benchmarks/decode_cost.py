"""What does a packet cost on its way through the pump?

CPU of a whole process for one stereo packet of 5, 10 or 20 ms: through this project's queue, thread
and state machine into a microphone that only counts; by opuslib.Decoder; and in a C loop over the
same libopus, the floor.

  python -m benchmarks.decode_cost
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from .kit import decoder, voice
from .kit.answer import Answer, Panel, Target, machine
from .kit.floor import build, pipewire_version
from .kit.rounds import take_turns
from .kit.script import Options, run

BLOCKS: Final = {"5 ms": 240, "10 ms": 480, "20 ms": 960}
PACKETS: Final = 960
TIMES: Final = 4
FLOOR: Final = "libopus (C)"
PUMP: Final = "stagebox pump"
OPUSLIB: Final = "opuslib.Decoder, any length"
OPUSLIB_TOLD: Final = "opuslib.Decoder, told the length"
NAMES: Final = (PUMP, FLOOR, OPUSLIB, OPUSLIB_TOLD)
MOST: Final = 1.3
LEAST: Final = 5.0


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    loop = build("opus_loop", options.scratch, "opus", "libpipewire-0.3")
    times = max(1, round(TIMES * options.scale))

    def turn(case: tuple[str, str]) -> float:
        name, length = case
        file = options.scratch / f"packets-{BLOCKS[length]}"
        if not file.exists():
            decoder.save(voice.packets(BLOCKS[length], PACKETS), file)
        command = [str(loop), str(file), str(times)]
        if name != FLOOR:
            command = [sys.executable, "-m", "benchmarks.kit.decoder", name, str(file)]
            command += ["--block", str(BLOCKS[length]), "--times", str(times)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)["us"])

    cases = [(name, length) for length in BLOCKS for name in NAMES]
    turns = take_turns(cases, turn, options.rounds, "decoding")

    def us(value: float) -> float:
        return value

    return Answer(
        name="decode_cost",
        question="What does a packet cost on its way through the pump?",
        how=f"CPU µs a stereo packet of {voice.BITRATE // 1000} kbit/s; the pump's with its "
        f"queue, thread and state machine, {decoder.BATCH} packets sent at once, into a "
        "microphone that only counts. opuslib.Decoder must be told how long a packet may be: the "
        "pump takes packets of any length, which for opuslib means 120 ms; and told each one's.",
        header=("decoder", *BLOCKS, *(f"times the floor at {length}" for length in BLOCKS)),
        rows=[
            (
                name,
                *(turns.spread((name, length), us).text(1) for length in BLOCKS),
                *(turns.ratio((name, length), (FLOOR, length), us).text() for length in BLOCKS),
            )
            for name in NAMES
        ],
        targets=[
            *(
                Target(f"{length}: at most {MOST} x libopus", ratio.text(), ratio.median <= MOST)
                for length in BLOCKS
                for ratio in (turns.ratio((PUMP, length), (FLOOR, length), us),)
            ),
            *(
                Target(f"{length}: opuslib {LEAST} x as much", ratio.text(), ratio.median >= LEAST)
                for length in BLOCKS
                for ratio in (turns.ratio((OPUSLIB, length), (PUMP, length), us),)
            ),
        ],
        panels=[
            Panel(length, "µs a packet", {name: turns[name, length] for name in NAMES})
            for length in BLOCKS
        ],
        figures={f"{name}, {length}": turns[name, length] for name, length in cases},
        machine=machine(pipewire_version()),
    )


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))
