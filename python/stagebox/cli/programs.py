"""PipeWire's own programs, as the applications at the other end of the demo."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING, Final, cast

import numpy as np

from stagebox import SAMPLE_RATE, PipeWireUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_PROGRAMS: Final = ("pw-play", "pw-record")

_READ_BYTES: Final = 1 << 16
_END_S: Final = 2.0


def require_programs() -> None:
    """Raise PipeWireUnavailable when one is not installed."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise PipeWireUnavailable(
            f"the demo needs {' and '.join(missing)}: install pipewire-bin on Debian and Ubuntu, "
            "pipewire-utils on Fedora, pipewire-audio on Arch"
        )


@contextlib.contextmanager
def playing(path: str, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Have pw-play play a file into the default sink."""
    with _running(["pw-play", path], env, subprocess.DEVNULL) as player:
        yield player


class Recorder:
    """What pw-record has written into its pipe so far, and when it came."""

    def __init__(self, process: subprocess.Popen[bytes], channels: int) -> None:
        """Read what `process` writes into `stdout`, from now on."""
        self._process = process
        self._pipe = cast("IO[bytes]", process.stdout)
        self._channels = channels
        self._data: list[bytes] = []
        self._times_ns: list[int] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._pipe.fileno(), _READ_BYTES):
            self._times_ns.append(time.monotonic_ns())
            self._data.append(data)

    def end(self) -> None:
        """End the program and read what it still had."""
        _end(self._process)
        self._thread.join()

    def pcm(self) -> NDArray[np.float32]:
        """Everything, `(frames, channels)`."""
        data = b"".join(self._data)
        whole = len(data) - len(data) % (4 * self._channels)
        return np.frombuffer(data[:whole], np.float32).reshape(-1, self._channels)

    def times_ns(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each of these frames was read; those not recorded are left out."""
        ends = np.cumsum([len(data) for data in self._data]) // (4 * self._channels)
        reads = np.searchsorted(ends, frames, side="right")
        return np.array(self._times_ns, np.int64)[reads[reads < len(ends)]]


@contextlib.contextmanager
def recording(
    source: str, channels: int, latency_frames: int, env: Mapping[str, str]
) -> Iterator[Recorder]:
    """Have pw-record record the source with that `node.name`."""
    command = ["pw-record", *_raw_option(env), "--target", source, "--format", "f32"]
    command += ["--rate", str(SAMPLE_RATE), "--channels", str(channels)]
    command += ["--latency", str(latency_frames), "-"]
    with _running(command, env, subprocess.PIPE) as process:
        recorder = Recorder(process, channels)
        try:
            yield recorder
        finally:
            recorder.end()


def _raw_option(env: Mapping[str, str]) -> list[str]:
    """PipeWire 1.4 writes AU into a pipe unless told; before, it knew no such option."""
    told = subprocess.run(["pw-record", "--help"], env=env, capture_output=True, check=False)
    return ["--raw"] if b"--raw" in told.stdout + told.stderr else []


@contextlib.contextmanager
def _running(
    command: list[str], env: Mapping[str, str], output: int
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the program to end; after a while do not ask any more."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
