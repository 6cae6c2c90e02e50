"""A sound that counts its frames, so that whoever hears it knows what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from stagebox import SAMPLE_RATE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stagebox import Chunk

_SCALE: Final = 1 << 24
"""A float32 holds every integer up to here exactly."""

_STEADY_FRAMES: Final = SAMPLE_RATE // 500
"""Times within 2 ms of what the frames before them say are on time."""

_PIECE_FRAMES: Final = SAMPLE_RATE // 10
"""Sound is made and looked at in pieces of so much: once malloc has seen large blocks it keeps
megabytes that it would else give back, and memory is watched."""

_SHAKEN_NS: Final = 1_000_000_000
"""For how long after a skip the graph's other nodes may still be getting back into step."""


def ramp(first: int, frames: int) -> NDArray[np.float32]:
    """Stereo whose frames count from `first`, 1 or more: upwards left, downwards right."""
    numbers = np.arange(first, first + frames) / _SCALE
    return np.column_stack([numbers, -numbers]).astype(np.float32)


def write_ramp(path: Path, seconds: int) -> None:
    """Write a ramp for pw-play."""
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, subtype="FLOAT") as file:
        for begin in range(1, seconds * SAMPLE_RATE, _PIECE_FRAMES):
            file.write(ramp(begin, _PIECE_FRAMES))


class RampCheck:
    """Follows a ramp from chunk to chunk of one capture.

    Silence between two frames is the player's: it is not real-time and misses a cycle now and
    then, after which it goes on where it was.

    Attributes:
        skipped_frames: by which the graph's clock went ahead of the frames it gave: when the
            machine stalls for longer than a cycle the graph goes on without whoever was not done.
        wrong_frames: missing, repeated or changed, with no loss counted that says why and the
            graph's clock steady: after a skip, what the player or the sink missed follows.
    """

    def __init__(self) -> None:
        self.skipped_frames = 0
        self.wrong_frames = 0
        self._last = 0  # the number heard last, 0 before the first
        self._lost = 0  # frames counted as lost since then
        self._due_ns: int | None = None
        self._shaken_until_ns = 0

    def hear(self, chunk: Chunk) -> None:
        """Look at the next chunk."""
        skipped = self._skipped(chunk)
        if skipped:
            self.skipped_frames += skipped
            self._shaken_until_ns = chunk.time_ns + _SHAKEN_NS
        self._lost += chunk.lost_frames
        pieces = range(0, len(chunk), _PIECE_FRAMES)
        wrong = sum(self._wrong(chunk.pcm[begin : begin + _PIECE_FRAMES]) for begin in pieces)
        if chunk.time_ns >= self._shaken_until_ns:
            self.wrong_frames += wrong

    def _skipped(self, chunk: Chunk) -> int:
        before_ns, self._due_ns = self._due_ns, chunk.time_ns + _ns(len(chunk))
        if before_ns is None:
            return 0
        late_ns = chunk.time_ns - before_ns - _ns(chunk.lost_frames)
        frames = round(late_ns * SAMPLE_RATE / 1e9)
        return frames if frames > _STEADY_FRAMES else 0

    def _wrong(self, pcm: NDArray[np.float32]) -> int:
        left, right = pcm[:, 0], pcm[:, 1]
        numbers = np.rint(left[left != 0].astype(np.float64) * _SCALE).astype(np.int64)
        if not len(numbers):
            return 0
        missing = np.diff(numbers, prepend=self._last) - 1
        if self._last == 0 or 0 < missing[0] <= self._lost:
            missing[0] = 0
        # The player begins again from time to time, perhaps not quite at the beginning.
        missing[(missing < 0) & (numbers <= SAMPLE_RATE)] = 0
        self._last, self._lost = int(numbers[-1]), 0
        return int(np.abs(missing).sum() + np.count_nonzero(left != -right))


def _ns(frames: int) -> int:
    return frames * 1_000_000_000 // SAMPLE_RATE
