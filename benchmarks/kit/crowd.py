"""Many streams in a process of their own.

    python -m benchmarks.kit.crowd COUNT --seconds 3

Opens so many captures and so many microphones, then reads every capture as its frames come and
pushes 20 ms to every microphone. Prints what that took, as JSON.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from stagebox import SAMPLE_RATE, open_audio_capture, open_virtual_mic

PUSHED_FRAMES: Final = 960
QUANTUM: Final = 256


def status(key: str) -> int:
    """Return a number from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def measure(count: int, seconds: float) -> dict[str, Any]:
    """Open, read and push."""
    with open_audio_capture(quantum_frames=QUANTUM):  # what only the first one takes
        time.sleep(0.2)
        before_kib, begin = status("VmRSS"), time.monotonic()
        captures = [open_audio_capture(quantum_frames=QUANTUM) for _ in range(count)]
        mics = [
            open_virtual_mic(name=f"crowd-{number}", quantum_frames=QUANTUM)
            for number in range(count)
        ]
        open_s = time.monotonic() - begin
        time.sleep(0.5)
        grown_kib = status("VmRSS") - before_kib
        threads = status("Threads")
    for capture in captures:
        capture.drain()
    cpu_s, wall_s, frames = _use(captures, mics, seconds)
    lost = sum(capture.stats.lost for capture in captures)
    for capture in captures:
        capture.close()
    for mic in mics:
        mic.close()
    return {
        "open_ms": open_s * 1000 / (2 * count),
        "kib": grown_kib / (2 * count),
        "threads": threads,
        "cpu": cpu_s / wall_s / (2 * count),
        "delivered": frames / (SAMPLE_RATE * wall_s * count),
        "lost": lost,
    }


def _use(captures: list[Any], mics: list[Any], seconds: float) -> tuple[float, float, int]:
    """Read and push for a while; CPU, time and frames read."""
    poll = select.epoll()
    by_descriptor = {capture.fileno(): capture for capture in captures}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    block = np.zeros((PUSHED_FRAMES, 2), np.float32)
    begin, begin_cpu = time.monotonic(), time.process_time()
    pushed = frames = 0
    while (now := time.monotonic()) < begin + seconds:
        for descriptor, _ in poll.poll(0.02):
            frames += len(by_descriptor[descriptor].next_chunk(timeout=0))
        if now >= begin + pushed * PUSHED_FRAMES / SAMPLE_RATE:
            pushed += 1
            for mic in mics:
                mic.push(block)
    cpu_s, wall_s = time.process_time() - begin_cpu, time.monotonic() - begin
    poll.close()
    return cpu_s, wall_s, frames


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kit.crowd", description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    print(json.dumps(measure(options.count, options.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
