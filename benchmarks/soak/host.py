"""What a host has open: a capture, two microphones and a pump, each with a thread of its own.

As in a host, each opens another stream when its own has died.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from stagebox import (
    SAMPLE_RATE,
    AudioCapturer,
    CaptureDied,
    MicPump,
    OpusEncoder,
    PipeWireUnavailable,
    open_audio_capture,
    open_virtual_mic,
)

from .part import Part
from .ramp import RampCheck
from .sample import CaptureCounts, MicCounts, PumpCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stagebox.mic import PipeWireMic

BLOCK_FRAMES: Final = 480
PACKET_FRAMES: Final = 960

QUANTUM_FRAMES: Final = 1024
"""PipeWire's own default. A shared machine, which takes the processor away for some milliseconds
now and then, has the graph skip many a shorter cycle; that would say nothing about us."""

_TONE_HZ: Final = 400  # whole waves in a block and in a packet
_RETRY_S: Final = 0.1
_WAIT_S: Final = 0.2
_AWAY_S: Final = 0.5
"""Who was away for longer leaves out what it missed, instead of sending it all at once."""

_Stream = TypeVar("_Stream")


class Lateness:
    """How late something was, at most, since the last time somebody asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._most_s = 0.0

    def note(self, late_s: float) -> None:
        """It was late by so much."""
        with self._lock:
            self._most_s = max(self._most_s, late_s)

    def take_ms(self) -> int:
        """Answer, and begin anew."""
        with self._lock:
            most_s, self._most_s = self._most_s, 0.0
        return round(most_s * 1000)


class Listener(Part):
    """Reads a capture and follows the ramp in it."""

    def __init__(self, remote: str) -> None:
        super().__init__("soak-listener")
        self.lateness = Lateness()
        self._remote = remote
        # Replaced as one, so that nobody counts a capture twice: what the ones before counted,
        # the one that is read, and what is heard in it.
        self._now: tuple[CaptureCounts, AudioCapturer | None, RampCheck] = (
            CaptureCounts(),
            None,
            RampCheck(),
        )

    def work(self) -> None:
        """Open one capture after another."""
        while capture := _opened(self._open, self.stopping):
            with capture:
                check = RampCheck()
                self._now = (self.counts(), capture, check)
                self._listen(capture, check)

    def _open(self) -> AudioCapturer:
        return open_audio_capture(quantum_frames=QUANTUM_FRAMES, remote=self._remote)

    def _listen(self, capture: AudioCapturer, check: RampCheck) -> None:
        try:
            while not self.stopping.is_set():
                chunk = capture.next_chunk(_WAIT_S)
                if chunk:
                    ended_ns = chunk.time_ns + len(chunk) * 1_000_000_000 // SAMPLE_RATE
                    self.lateness.note((time.monotonic_ns() - ended_ns) / 1e9)
                    check.hear(chunk)
        except CaptureDied:
            return

    def counts(self) -> CaptureCounts:
        """Of all captures so far."""
        before, capture, check = self._now
        if capture is None:
            return before
        stats = capture.stats
        return before + CaptureCounts(
            stats.frames, stats.quanta, stats.lost, check.skipped_frames, check.wrong_frames
        )

    @property
    def open(self) -> bool:
        """Whether there is a capture that lives."""
        capture = self._now[1]
        return capture is not None and capture.stats.state in {"idle", "streaming"}


class MicTally:
    """Adds up the counters of one microphone after another."""

    def __init__(self) -> None:
        # Replaced as one: what the microphones before counted, and the one that is used.
        self._now: tuple[MicCounts, PipeWireMic | None] = (MicCounts(), None)

    def follow(self, mic: PipeWireMic) -> None:
        """From now on it is this one."""
        self._now = (self.counts(), mic)

    def counts(self) -> MicCounts:
        """Of all of them."""
        before, mic = self._now
        if mic is None:
            return before
        stats = mic.stats
        return before + MicCounts(
            stats.underruns, stats.reprimes, stats.dropped, stats.trimmed, stats.stale
        )

    @property
    def open(self) -> bool:
        """Whether there is a microphone that lives."""
        mic = self._now[1]
        return mic is not None and mic.alive


class Talker(Part):
    """Pushes a tone into a microphone, in blocks of 10 ms."""

    def __init__(self, name: str, remote: str) -> None:
        super().__init__(name)
        self.tally = MicTally()
        self.lateness = Lateness()
        self._remote = remote

    def work(self) -> None:
        """Open one microphone after another."""
        block = _tone(BLOCK_FRAMES)
        while mic := _opened(self._open, self.stopping):
            with mic:
                self.tally.follow(mic)
                for _ in _beats(BLOCK_FRAMES, self.lateness, self.stopping):
                    if not mic.push(block):
                        break

    def _open(self) -> PipeWireMic:
        return _mic(self.name, 2, self._remote)


class Passthrough(Part):
    """Sends a tone as Opus packets of 20 ms to a pump, which sees to its microphone itself."""

    def __init__(self, name: str, remote: str) -> None:
        super().__init__(name)
        self.tally = MicTally()
        self.lateness = Lateness()
        self._remote = remote
        self._pump: MicPump | None = None

    def work(self) -> None:
        """Keep one pump for all the time."""
        encoder = OpusEncoder()
        packets = itertools.cycle([encoder.encode(_tone(PACKET_FRAMES)) for _ in range(50)])
        with MicPump.start(self._open) as pump, pump.sender() as sender:
            self._pump = pump
            for _ in _beats(PACKET_FRAMES, self.lateness, self.stopping):
                sender.try_send(next(packets))

    def _open(self, channels: int) -> PipeWireMic:
        mic = _mic(self.name, channels, self._remote)
        self.tally.follow(mic)
        return mic

    def counts(self) -> PumpCounts:
        """Of the pump."""
        if self._pump is None:
            return PumpCounts()
        stats = self._pump.stats
        return PumpCounts(
            stats.packets, stats.dropped_full + stats.dropped_closed, stats.opens, stats.deaths
        )


def _mic(name: str, channels: int, remote: str) -> PipeWireMic:
    return open_virtual_mic(channels, name=name, quantum_frames=QUANTUM_FRAMES, remote=remote)


def _opened(opener: Callable[[], _Stream], stopping: threading.Event) -> _Stream | None:
    """Try until there is a stream; None when told to stop before."""
    while not stopping.is_set():
        try:
            return opener()
        except PipeWireUnavailable:
            stopping.wait(_RETRY_S)
    return None


def _beats(frames: int, lateness: Lateness, stopping: threading.Event) -> Iterator[None]:
    """Yield when the next so many frames are due, at the rate of real time."""
    due = time.monotonic()
    while not stopping.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        late_s = time.monotonic() - due
        lateness.note(late_s)
        yield
        due += frames / SAMPLE_RATE + (late_s if late_s > _AWAY_S else 0)


def _tone(frames: int) -> NDArray[np.float32]:
    wave = 0.3 * np.sin(2 * np.pi * _TONE_HZ * np.arange(frames) / SAMPLE_RATE)
    return np.repeat(wave[:, np.newaxis], 2, axis=1).astype(np.float32)
