"""One contender talks into a microphone, in a process of its own.

    python -m benchmarks.kit.talker CONTENDER --block 480 --seconds 5 --log FILE

At the pace of real time it hands over blocks of a ramp, or packets of noise, and notes when. It
prints a line of JSON at the end. `SETTINGS` states the contenders' settings, the lowest latency
that each offers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .timeline import RATE_HZ, BlockLog, ramp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIC: Final = "bench-mic"
"""What is recorded, whoever is behind it."""

CABLE: Final = "bench-cable"
"""The null sink of those who cannot make a microphone."""

QUANTUM: Final = 256

SETTINGS: Final = {
    "stagebox": "open_virtual_mic(quantum_frames=256), push()",
    "stagebox pump": "MicPump, try_send(), a microphone with quantum_frames=256",
    "pacat": "--latency-msec=1 --process-time-msec=1 into a null sink, its monitor remapped",
    "pw-cat": "--latency 256, raw on stdin, into a null sink, its monitor remapped",
}

COMMANDS: Final = {
    "pacat": (
        *("pacat", "--playback", f"--device={CABLE}", "--raw", "--format=float32le"),
        *(f"--rate={RATE_HZ}", "--channels=2", "--latency-msec=1", "--process-time-msec=1"),
    ),
    "pw-cat": (
        *("pw-cat", "--playback", "--target", CABLE, "--latency", str(QUANTUM)),
        *("--format", "f32", "--rate", str(RATE_HZ), "--channels", "2", "-"),
    ),
}


def paced(block: int, seconds: float) -> Iterator[int]:
    """Yield the number of each block when it is due."""
    begin = time.monotonic()
    for number in range(round(seconds * RATE_HZ / block)):
        time.sleep(max(0.0, begin + number * block / RATE_HZ - time.monotonic()))
        yield number


def talk(options: argparse.Namespace, log: BlockLog, hand_over: Callable[[Any], object]) -> None:
    """Hand over a ramp, block by block."""
    for number in paced(options.block, options.seconds):
        pcm = ramp(1 + number * options.block, options.block)
        log.note(time.monotonic_ns(), pcm)
        hand_over(pcm)


def stagebox(options: argparse.Namespace, log: BlockLog) -> dict[str, Any]:
    """Push into this project's microphone."""
    import stagebox

    with stagebox.open_virtual_mic(name=MIC, quantum_frames=QUANTUM) as mic:
        _wait_for(lambda: mic.stats.quantum > 0)
        talk(options, log, mic.push)
        stats = mic.stats
    return {"underruns": stats.underruns + stats.reprimes}


def program(options: argparse.Namespace, log: BlockLog) -> dict[str, Any]:
    """Write to a program's standard input."""
    with subprocess.Popen(COMMANDS[options.contender], stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None  # noqa: S101 - asked for
        talk(options, log, process.stdin.write)
        process.kill()
    return {}


def pump(options: argparse.Namespace, log: BlockLog) -> dict[str, Any]:
    """Send packets to this project's pump; the log's blocks are numbered by packet."""
    import stagebox

    packets = [bytes(packet) for packet in np.load(options.packets, allow_pickle=True)]
    mics: list[Any] = []

    def opener(channels: int) -> Any:
        mics.append(stagebox.open_virtual_mic(channels, name=MIC, quantum_frames=QUANTUM))
        return mics[-1]

    with stagebox.MicPump.start(opener) as running, running.sender() as sender:
        _wait_for(lambda: mics and mics[0].stats.quantum > 0)
        for number in paced(options.block, len(packets) * options.block / RATE_HZ):
            log.note(time.monotonic_ns(), ramp(1 + number * options.block, options.block))
            sender.try_send(packets[number])
        stats = mics[0].stats
    return {"underruns": stats.underruns + stats.reprimes}


def _wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


CONTENDERS: Final = {
    "stagebox": stagebox,
    "stagebox pump": pump,
    "pacat": program,
    "pw-cat": program,
}


def main() -> int:
    """Talk as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kit.talker", description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--block", type=int, default=480, help="frames")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--packets", type=Path, help="what the pump is sent")
    options = parser.parse_args()
    log = BlockLog()
    result = CONTENDERS[options.contender](options, log)
    log.save(options.log)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
