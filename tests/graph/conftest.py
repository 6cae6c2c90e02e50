"""Sound in and out of a private graph, through applications, as numbers."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from stagebox import SAMPLE_RATE, AudioCapturer, Chunk, open_virtual_mic
from stagebox.layout import POSITIONS
from tests.conftest import wait_until
from tests.footprint import Footprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stagebox.mic import PipeWireMic
    from stagebox.testing import PrivateGraph


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own, for what is kept on the disk."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


MEBIBYTE_KIB = 1024
RAMP_SCALE = 1 << 24
"""A float32 holds every integer up to here exactly."""


def ramp(frames: int, channels: int) -> NDArray[np.float32]:
    """PCM that counts: each sample says its frame (from 1) and its channel, exactly."""
    numbers = np.arange(1, frames + 1)[:, None] * channels + np.arange(channels)
    assert frames * channels + channels < RAMP_SCALE
    return (numbers / RAMP_SCALE).astype(np.float32)


def counted(pcm: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which frame of a ramp each frame of `pcm` is, 0 for silence; all channels must agree."""
    channels = pcm.shape[1]
    numbers = np.rint(pcm.astype(np.float64) * RAMP_SCALE).astype(np.int64)
    silent = (pcm == 0).all(axis=1)
    frames = (numbers - np.arange(channels)) // channels
    differ = np.flatnonzero(~silent & (frames != frames[:, :1]).any(axis=1))
    assert not len(differ), f"the channels do not agree: {len(differ)}, at first {pcm[differ[0]]}"
    assert (silent[:, None] | (numbers % channels == np.arange(channels))).all(), "channel order"
    return np.where(silent, 0, frames[:, 0])


def heard(pcm: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ramp's frames in `pcm`, without the silence around and between them.

    Silence between two of them is the player's: pw-play is not real-time and misses a cycle now
    and then. Nothing that captures could put it there, or hide a frame lost or repeated by it.
    """
    frames = counted(pcm)
    return frames[frames > 0]


def followed_by_silence(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """With half a second after it: pw-play may end before its last quantum has been heard."""
    return np.concatenate([pcm, np.zeros((SAMPLE_RATE // 2, pcm.shape[1]), np.float32)])


def tone(frequency_hz: float, seconds: float, channels: int = 2) -> NDArray[np.float32]:
    """A sine at half of full scale on every channel."""
    time_s = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 0.5 * np.sin(2 * np.pi * frequency_hz * time_s)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def longest_sound(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """The longest stretch of a tone without silence in it.

    Each cycle that pw-play misses is a quantum of silence, after which the tone goes on where it
    was: across that its phase jumps, and its frequency cannot be measured.
    """
    sounding = np.flatnonzero(pcm[:, 0])
    if not len(sounding):
        return pcm[:0]
    runs = np.split(sounding, np.flatnonzero(np.diff(sounding) > 8) + 1)
    longest = max(runs, key=len)
    return pcm[longest[0] : longest[-1] + 1]


def loudest_hz(pcm: NDArray[np.float32], rate_hz: int = SAMPLE_RATE) -> float:
    """The frequency of the strongest component of the first channel."""
    wave = pcm[:, 0] * np.hanning(len(pcm))
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * rate_hz / len(wave))


WINDOW = 4800
"""Frames whose FFT has a value each 10 Hz, so that each tone is exactly one of them."""


def spectrum(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """How loud each frequency is, 10 Hz apart, on the quieter channel."""
    return np.asarray(np.abs(np.fft.rfft(pcm, axis=0)).min(axis=1) / (WINDOW / 2), np.float32)


def amplitudes(pcm: NDArray[np.float32], tones_hz: Iterable[int]) -> dict[int, float]:
    """How loud each of some tones is in a window of them; `tone` plays 0.5.

    Less what is around it: where a player misses a cycle, all frequencies are heard for a moment.
    """
    loud = spectrum(pcm)

    def above_its_neighbours(at: int) -> float:
        around = np.concatenate([loud[at - 15 : at - 4], loud[at + 5 : at + 16]])
        return max(0.0, float(loud[at] - 6 * np.median(around)))

    return {hz: above_its_neighbours(hz * WINDOW // SAMPLE_RATE) for hz in tones_hz}


class Applications:
    """pw-play and pw-record, the way people run them, on one graph."""

    def __init__(self, graph: PrivateGraph, directory: Path) -> None:
        self.remote = graph.remote
        self._graph = graph
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()

    def play(
        self, pcm: NDArray[np.float32], target: str | None = "stagebox-sink", name: str = "pw-play"
    ) -> subprocess.Popen[bytes]:
        """Play PCM into a sink; with None, have nobody link the player."""
        path = self._directory / f"play-{next(self._numbers)}.wav"
        soundfile.write(path, pcm, SAMPLE_RATE, subtype="FLOAT")
        positions = ",".join(POSITIONS[pcm.shape[1]])
        command = ["pw-play", "--channel-map", positions, "--target", target or "0"]
        properties = f"{{ node.name = {name}, application.name = {name} }}"
        return self._run([*command, "--properties", properties, str(path)])

    def play_level(self, sink: str, level: np.float32) -> subprocess.Popen[bytes]:
        """Play a constant into a sink for 90 s, by links that are not the session manager's."""
        name = f"play-{sink}-{next(self._numbers)}"
        pcm = np.full((90 * SAMPLE_RATE, 2), level, np.float32)
        player = self.play(pcm, target=None, name=name)

        def is_linked(side: str) -> bool:
            link = ["pw-link", f"{name}:output_{side}", f"{sink}:playback_{side}"]
            done = subprocess.run(link, env=self._graph.env, stderr=subprocess.DEVNULL, check=False)
            return done.returncode == 0

        wait_until("a link", lambda: is_linked("FL"))
        wait_until("a link", lambda: is_linked("FR"))
        return player

    @contextmanager
    def recording(
        self, name: str = "stagebox-mic", channels: int = 2
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Record a source for as long as the block lasts; the list then holds the PCM."""
        path = self._directory / f"record-{next(self._numbers)}.wav"
        command = ["pw-record", "--target", name, "--format", "f32", "--rate", str(SAMPLE_RATE)]
        process = self._run([*command, "--channels", str(channels), str(path)])
        result: list[NDArray[np.float32]] = []
        try:
            yield result
        finally:
            process.terminate()
            process.wait(5)
        result.append(soundfile.read(path, dtype="float32", always_2d=True)[0])

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=self._graph.env)
        self._running.append(process)
        return process

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture
def applications(private_graph: PrivateGraph, tmp_path: Path) -> Iterator[Applications]:
    running = Applications(private_graph, tmp_path)
    yield running
    running.stop()


STEADY_FRAMES = 1024
"""A quantum long enough for a shared machine that takes our processors away now and then."""


def is_undisturbed(chunks: list[Chunk]) -> bool:
    """Whether the graph's clock went on with the frames from chunk to chunk.

    When the machine stalls for longer than a quantum the graph skips a cycle for whoever was
    not done: sound is gone before it reaches anybody, and a test of who loses it says nothing.
    """
    gaps_ns = [
        after.time_ns
        - before.time_ns
        - (len(before) + after.lost_frames) * 1_000_000_000 // SAMPLE_RATE
        for before, after in pairwise(chunk for chunk in chunks if chunk)
    ]
    return all(abs(gap) < 2_000_000 for gap in gaps_ns)


def undisturbed(attempt: Callable[[], list[Chunk]], tries: int = 4) -> list[Chunk]:
    """Repeat an attempt that the machine spoilt; what an undisturbed one captured."""
    for _ in range(tries):
        chunks = attempt()
        if is_undisturbed(chunks):
            return chunks
    pytest.fail(f"the graph skipped cycles in each of {tries} attempts: is the machine overloaded?")


def joined(chunks: list[Chunk]) -> NDArray[np.float32]:
    """The PCM of many chunks as one."""
    return np.concatenate([chunk.pcm for chunk in chunks])


def threads_of_routers() -> int:
    return sum(thread.name == "stagebox-router" for thread in threading.enumerate())


def assert_leaves_nothing(use: Callable[[], None]) -> None:
    """After some times to warm up, twenty leave no thread and no descriptor, and under 1 MiB."""
    for _ in range(5):
        use()
    wait_until("the routers' end", lambda: threads_of_routers() == 0)
    before = Footprint.now()
    for _ in range(20):
        use()
    wait_until("the routers' end", lambda: threads_of_routers() == 0)
    before.assert_grown_by_at_most(MEBIBYTE_KIB)


class Listener:
    """Reads a capture in a thread of its own, as a host would."""

    def __init__(self, capture: AudioCapturer) -> None:
        self._capture = capture
        self.chunks: list[Chunk] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.chunks.extend(self._capture)

    def pcm(self) -> NDArray[np.float32]:
        empty = np.empty((0, self._capture.channels), np.float32)
        return np.concatenate([empty, *(chunk.pcm for chunk in self.chunks)])

    def stop(self) -> NDArray[np.float32]:
        self._capture.close()
        self._thread.join(5)
        return self.pcm()


def speak(
    mic: PipeWireMic,
    pcm: NDArray[np.float32],
    block_frames: int = 480,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Push PCM at the rate of real time."""
    begin = time.monotonic()
    for at in range(0, len(pcm), block_frames):
        assert mic.push(pcm[at : at + block_frames])
        if until():
            return
        time.sleep(max(0, begin + (at + block_frames) / SAMPLE_RATE - time.monotonic()))


def wait_for_recorder(mic: PipeWireMic) -> None:
    wait_until("somebody to record", lambda: mic.stats.quantum > 0)


@contextmanager
def recorded_mic(
    applications: Applications, channels: int = 2, quantum_frames: int = 240
) -> Iterator[tuple[PipeWireMic, list[NDArray[np.float32]]]]:
    """A microphone that an application records for as long as the block lasts."""
    with (
        open_virtual_mic(
            channels, quantum_frames=quantum_frames, remote=applications.remote
        ) as mic,
        applications.recording(channels=channels) as recorded,
    ):
        wait_for_recorder(mic)
        yield mic, recorded
