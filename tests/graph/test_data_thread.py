"""What the data thread asks of the system while sound flows: nothing but the wake-ups."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs_libcs_malloc, untraced
from tests.graph.conftest import Applications, tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from stagebox.testing import PrivateGraph

PROBE = Path(__file__).parents[1] / "native" / "rt_probe.c"
WRITE, GETPPID, MMAP = "1", "110", "9"  # system calls of x86-64
NOT_THERE = 77  # the status with which the probe ends where the kernel cannot do it

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        (platform.machine(), platform.libc_ver()[0]) != ("x86_64", "glibc"),
        reason="the probe is made for x86-64 and glibc",
    ),
]


@dataclass(frozen=True, slots=True)
class Report:
    """What a stream's callbacks did: see rt_probe.c."""

    stream: str
    callbacks: int
    longest_ns: int
    allocations: int
    locks: int
    faults_in_warm_up: int
    faults: int
    most_syscalls: int
    written_fd: int
    syscalls: dict[str, int]


def reports(text: str) -> list[Report]:
    return [Report(**json.loads(line)) for line in text.splitlines()]


def build(output: Path, *flags: str) -> Path:
    listed = subprocess.run(
        ["pkg-config", "--cflags", "libpipewire-0.3"], capture_output=True, text=True, check=True
    )
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O1", *flags, *listed.stdout.split()]
    subprocess.run([*command, PROBE, "-o", output], check=True)
    return output


def require_probe(status: int, stderr: str) -> None:
    if status == NOT_THERE:
        pytest.skip(stderr.strip())
    assert status == 0, stderr


def test_the_probe_sees_every_kind_of_sin(tmp_path: Path) -> None:
    program = build(tmp_path / "sins", "-DRT_PROBE_TEST")
    done = subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)
    require_probe(done.returncode, done.stderr)
    seen = {
        report.stream: (report.allocations, report.locks, report.syscalls, report.faults)
        for report in reports(done.stdout)
    }
    calls = 21
    assert seen == {
        "does_nothing_wrong": (0, 0, {}, 0),
        "allocates": (2 * calls, 0, {}, 0),
        "locks": (0, 2 * calls, {}, 0),
        "asks_the_kernel": (0, 0, {GETPPID: calls}, 0),
        "asks_the_kernel_by_itself": (0, 0, {GETPPID: calls}, 0),
        "passes_six_arguments": (0, 0, {MMAP: calls}, 0),
        "touches_fresh_memory": (0, 0, {}, 1),
    }


STREAMING = """
import sys, threading, time
import numpy as np
import stagebox

remote, seconds = sys.argv[1], float(sys.argv[2])
with (
    stagebox.open_audio_capture(remote=remote) as waiting,
    stagebox.open_audio_capture(remote=remote) as rarely_read,
    stagebox.open_virtual_mic(remote=remote) as mic,
):
    print(waiting.fileno(), rarely_read.fileno(), flush=True)
    while mic.stats.quantum == 0:
        time.sleep(0.01)
    since = rarely_read.stats.quanta
    while rarely_read.stats.quanta < since + 30:
        time.sleep(0.01)
    print("warm", flush=True)
    end = time.monotonic() + seconds

    def speak():
        block = np.full((480, 2), 0.5, np.float32)
        for count in range(int(seconds * 100)):
            mic.push(block)
            if count % 100 == 0:
                mic.discard()
            time.sleep(0.01)

    def read_rarely():
        while time.monotonic() < end:
            time.sleep(0.3)
            rarely_read.next_chunk(0)

    threads = [threading.Thread(target=speak), threading.Thread(target=read_rarely)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        waiting.next_chunk()
    for thread in threads:
        thread.join()
    heard = waiting.stats.frames, mic.stats.played
    print(*heard, flush=True)
"""


QUANTA = (2048, 256, 1024, 128)
"""The longest first: as far as it reaches, PipeWire's buffers are touched in the warm-up."""


def force_quantum(graph: PrivateGraph, frames: int) -> None:
    command = ["pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(frames)]
    subprocess.run(command, env=graph.env, capture_output=True, timeout=10, check=True)


@needs_libcs_malloc
def test_nothing_but_wake_ups_is_asked_of_the_system_while_streaming(
    private_graph: PrivateGraph,
    applications: Applications,
    tmp_path: Path,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    seconds = rounds(3, 60)
    library = build(tmp_path / "rt_probe.so", "-shared", "-fPIC")
    preloaded = {"LD_PRELOAD": str(library), "RT_PROBE_REPORT": str(tmp_path / "report")}
    force_quantum(private_graph, QUANTA[0])
    applications.play(tone(440, seconds + 10))
    with subprocess.Popen(
        [sys.executable, "-c", STREAMING, private_graph.remote, str(seconds)],
        env={**untraced(os.environ), **preloaded},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as streaming:
        assert streaming.stdout
        assert streaming.stderr
        opened = streaming.stdout.readline().split()
        with applications.recording():
            assert streaming.stdout.readline() == "warm\n"
            for quantum in itertools.cycle(QUANTA):
                force_quantum(private_graph, quantum)
                time.sleep(0.3)
                if streaming.poll() is not None:
                    break
        require_probe(streaming.wait(10), streaming.stderr.read())
        captured, played = map(int, streaming.stdout.readline().split())
    assert captured > 0
    assert played > 0

    waiting, rarely_read, mic = every = reports((tmp_path / "report").read_text())
    for report in every:
        figure(str(report))
    for report in every:
        assert report.callbacks > 20 * seconds
        assert report.allocations == report.locks == report.faults == 0
    assert mic.syscalls == {}
    for report, fd in zip((waiting, rarely_read), opened, strict=True):
        assert report.syscalls.keys() == {WRITE}
        assert report.written_fd == int(fd)
        assert report.most_syscalls == 1
    assert 0 < rarely_read.syscalls[WRITE] < waiting.syscalls[WRITE]
