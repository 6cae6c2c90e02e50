"""One contender reads a sink's monitor, in a process of its own.

    python -m benchmarks.kit.reader CONTENDER --quantum 256 --seconds 5 --log FILE

With a log it notes there when it held which frames. Without one it only counts them, as noting
costs a good part of what reading does, and looks at a block after the warm-up and one before the
end: the marks. It prints what it took, and the marks, as a line of JSON. PULSE_SOURCE says what the
PulseAudio clients record. The contenders' settings are the lowest latency that each offers at that
quantum; `SETTINGS` states them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .busy import busy_threads
from .cpu import cpu_s
from .graph import SINK
from .timeline import RATE_HZ, BlockLog, FrameCount

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Note = Callable[[NDArray[np.float32]], None]

WARM_UP_S: Final = 0.5

LEAST: Final = "least Python"
HURRIED: Final = "stagebox, hurried"

SETTINGS: Final = {
    "stagebox": "next_chunk(), quantum_frames=Q",
    "pw-record": "--latency Q, a pipe, os.read",
    "parec": "--latency-msec=1 --process-time-msec=1, a pipe, os.read",
    "soundcard": "recorder(blocksize=Q), record(None)",
    "sounddevice": "InputStream(blocksize=Q, latency='low') with a callback, ALSA's pulse device",
}
"""What is measured; Q is the graph's quantum."""


class Contender(ABC):
    """What reads, and the processes that do it for it."""

    def __init__(self, quantum: int, note: Note) -> None:
        self.quantum = quantum
        self.note = note
        self.stopping = False
        self.helpers: list[int] = []
        self.lost: int | None = None

    @abstractmethod
    def run(self, until: float) -> None:
        """Read until then (time.monotonic)."""


class Stagebox(Contender):
    """This project."""

    def run(self, until: float) -> None:
        """Read until then."""
        import stagebox

        with stagebox.open_audio_capture(target=SINK, quantum_frames=self.quantum) as capture:
            while time.monotonic() < until:
                self.note(capture.next_chunk().pcm)
            self.lost = capture.stats.lost


class Hurried(Stagebox):
    """This project, in a program whose threads hand the interpreter on after a fifth of the time.

    That is the program's choice: it holds for all its threads.
    """

    def run(self, until: float) -> None:
        """Read until then."""
        sys.setswitchinterval(0.001)
        super().run(until)


class LeastPython(Contender):
    """The least that Python can do: one call into C that waits and copies, and nothing else."""

    def run(self, until: float) -> None:
        """Read until then."""
        import stagebox
        from stagebox import _native

        ffi, lib, *_ = _native._extension()  # noqa: SLF001 - what the package is measured by
        pcm = np.empty((self.quantum, 2), np.float32)
        frames = ffi.from_buffer("float[]", pcm)
        with stagebox.open_audio_capture(target=SINK, quantum_frames=self.quantum) as capture:
            handle = capture._native.handle  # type: ignore[attr-defined]  # noqa: SLF001
            while time.monotonic() < until:
                self.note(pcm[: max(0, lib.sbx_capture_fill(handle, frames, self.quantum, 50))])


class Soundcard(Contender):
    """SoundCard, over PulseAudio's library."""

    def run(self, until: float) -> None:
        """Read until then."""
        import soundcard

        source = soundcard.get_microphone(f"{SINK}.monitor", include_loopback=True)
        with source.recorder(RATE_HZ, channels=2, blocksize=self.quantum) as recorder:
            while time.monotonic() < until:
                self.note(recorder.record(numframes=None))


class Sounddevice(Contender):
    """python-sounddevice, over PortAudio, ALSA and its plugin."""

    def run(self, until: float) -> None:
        """Read until then."""
        import sounddevice

        def callback(pcm: NDArray[np.float32], _frames: int, _time: Any, _status: Any) -> None:
            self.note(pcm)

        with sounddevice.InputStream(
            samplerate=RATE_HZ,
            blocksize=self.quantum,
            device="pulse",
            channels=2,
            dtype="float32",
            latency="low",
            callback=callback,
        ):
            time.sleep(until - time.monotonic())


class Piped(Contender):
    """A program that writes raw PCM to a pipe."""

    command: tuple[str, ...]

    def run(self, until: float) -> None:
        """Read until then."""
        command = [part.replace("Q", str(self.quantum)) for part in self.command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as program:
            assert program.stdout is not None  # noqa: S101 - asked for
            self.helpers.append(program.pid)
            descriptor = program.stdout.fileno()
            rest = b""
            while time.monotonic() < until:
                data = rest + os.read(descriptor, 1 << 16)
                whole = len(data) & ~7
                rest = data[whole:]
                self.note(np.frombuffer(data, np.float32, whole // 4).reshape(-1, 2))
            program.kill()


class PwRecord(Piped):
    """PipeWire's recorder."""

    command = (
        *("pw-record", "--target", SINK, "--latency", "Q", "--format", "f32"),
        *("--rate", str(RATE_HZ), "--channels", "2", "-P", "{ stream.capture.sink=true }", "-"),
    )


class Parec(Piped):
    """PulseAudio's recorder."""

    command = (
        *("parec", f"--device={SINK}.monitor", "--latency-msec=1", "--process-time-msec=1"),
        *("--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--raw"),
    )


CONTENDERS: Final[dict[str, type[Contender]]] = {
    "stagebox": Stagebox,
    HURRIED: Hurried,
    LEAST: LeastPython,
    "pw-record": PwRecord,
    "parec": Parec,
    "soundcard": Soundcard,
    "sounddevice": Sounddevice,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Read for a while; return what it cost after the warm-up."""
    log = BlockLog()
    count = FrameCount()
    clock = time.monotonic_ns

    def note(pcm: NDArray[np.float32]) -> None:
        log.note(clock(), pcm)

    keep = note if options.log else count.note
    contender = CONTENDERS[options.contender](options.quantum, keep)
    begin = time.monotonic()
    costs: list[tuple[float, float, float]] = []

    def look() -> None:
        """Note what has been used; before the end, as a helper ends with it."""
        own = time.process_time() + sum(map(cpu_s, contender.helpers))
        server = cpu_s(options.server) if options.server else 0.0
        costs.append((time.monotonic(), own, server))
        count.ask()

    timers = [
        threading.Timer(after, look) for after in (WARM_UP_S, options.seconds - WARM_UP_S / 5)
    ]
    for timer in timers:
        timer.start()
    with busy_threads(options.busy):
        contender.run(begin + options.seconds)
    for timer in timers:
        timer.join()
    if options.log:
        log.save(options.log)
    (since, own, server), (end, own_end, server_end) = costs
    return {
        "cpu_s": own_end - own,
        "server_cpu_s": server_end - server,
        "wall_s": end - since,
        "lost": contender.lost,
        "marks": [dataclasses.asdict(mark) for mark in count.marks],
    }


def main() -> int:
    """Read as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kit.reader", description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--quantum", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--log", type=Path, help="note every block there, not only how many frames")
    parser.add_argument("--busy", type=int, default=0, help="threads that compute meanwhile")
    parser.add_argument("--server", type=int, default=0, help="a process whose CPU counts, too")
    print(json.dumps(measure(parser.parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
