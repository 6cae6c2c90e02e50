"""Who had which frame when: a player's or pusher's log beside a reader's.

Frames carry their own number: a sample is `number / RAMP_SCALE`, which float32 holds exactly; 0 is
silence. A log is a file of `BLOCK` records, one for each block written or held.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ: Final = 48_000

RAMP_SCALE: Final = 1 << 24
"""As in benchmarks/floor/bench.h."""

BLOCK: Final = np.dtype(
    [
        ("time_ns", "<i8"),  # CLOCK_MONOTONIC
        ("first", "<f4"),
        ("last", "<f4"),
        ("frames", "<u4"),
        ("unused", "<u4"),
    ]
)
"""`struct block` of benchmarks/floor/bench.h."""


class BlockLog:
    """The same log, written from Python."""

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._blocks = np.zeros(capacity, BLOCK)
        self._count = 0

    def note(self, time_ns: int, pcm: NDArray[np.float32]) -> None:
        """Note a block of frames, `(frames, channels)`; an empty one is none."""
        frames = len(pcm)
        if frames and self._count < len(self._blocks):
            self._blocks[self._count] = (time_ns, pcm[0, 0], pcm[-1, 0], frames, 0)
            self._count += 1

    def save(self, path: Path) -> None:
        """Write it where `Blocks.load` finds it."""
        self._blocks[: self._count].tofile(path)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a reader's at which it held sound.

    Attributes:
        time_ns: CLOCK_MONOTONIC.
        number: of the newest frame it held.
        frames: that it had been given until then, silence among them.
    """

    time_ns: int
    number: int
    frames: int


def marks_of(log: NDArray[Any]) -> list[Mark]:
    """Return the marks that a log's entries make: those that end in sound."""
    numbers = np.rint(log["last"].astype(np.float64) * RAMP_SCALE).astype(np.int64)
    given = np.cumsum(log["frames"], dtype=np.int64)
    return [
        Mark(int(log["time_ns"][at]), int(numbers[at]), int(given[at]))
        for at in np.flatnonzero(numbers > 0)
    ]


class FrameCount:
    """Counts a reader's frames: all that it does with a block is to add its length.

    A log entry for each would cost a good part of what reading does. So samples are looked at for
    a mark alone.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._frames = 0
        self._asked = False

    def ask(self) -> None:
        """Have the next block that ends in sound leave a mark. Any thread."""
        self._asked = True

    def note(self, pcm: NDArray[np.float32]) -> None:
        """Count a block, `(frames, channels)`. The reader's thread."""
        self._frames += len(pcm)
        if self._asked:
            self._mark(pcm)

    def _mark(self, pcm: NDArray[np.float32]) -> None:
        number = round(pcm[-1, 0].item() * RAMP_SCALE) if len(pcm) else 0
        if number > 0:
            self._asked = False
            self.marks.append(Mark(time.monotonic_ns(), number, self._frames))


@dataclass(frozen=True, slots=True)
class Read:
    """How much of what there was a reader read.

    Attributes:
        frames: that it was given, silence among them.
        played: that the player numbered meanwhile.
        due: that a sink plays in that time.
    """

    frames: int
    played: int
    due: float

    @classmethod
    def between(cls, first: Mark, last: Mark) -> Self:
        """Of what came after one mark, until another."""
        return cls(
            last.frames - first.frames,
            last.number - first.number,
            (last.time_ns - first.time_ns) * RATE_HZ / 1e9,
        )

    @property
    def lost(self) -> int:
        """Frames that were numbered and not read."""
        return max(0, self.played - self.frames)

    @property
    def share(self) -> float:
        """Of what there was: by the player's numbers or by the time, whichever says more."""
        return self.frames / max(self.played, self.due)


def ramp(first: int, frames: int) -> NDArray[np.float32]:
    """Stereo PCM that counts on from frame `first`, `(frames, 2)`."""
    numbers = (np.arange(first, first + frames) / RAMP_SCALE).astype(np.float32)
    return np.repeat(numbers[:, None], 2, axis=1)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of a ramp, in order; silence is left out.

    Attributes:
        time_ns: when each was written or held.
        first, last: the numbers of its first and last frame.
        frames: how many it has; more than the numbers tell where silence is among them.
    """

    time_ns: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    frames: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a log."""
        return cls.of(np.fromfile(path, BLOCK))

    @classmethod
    def of(cls, log: NDArray[Any]) -> Self:
        """Make sense of a log; its unused end has no frames."""
        log = log[log["frames"] > 0]
        first, last = (
            np.rint(log[end].astype(np.float64) * RAMP_SCALE).astype(np.int64)
            for end in ("first", "last")
        )
        whole = (first > 0) & (last >= first)
        time_ns, frames = log["time_ns"], log["frames"].astype(np.int64)
        return cls(time_ns[whole], first[whole], last[whole], frames[whole])

    def __len__(self) -> int:
        return len(self.first)

    def after(self, time_ns: int) -> Self:
        """Return those of that time and later."""
        late = self.time_ns >= time_ns
        return type(self)(self.time_ns[late], self.first[late], self.last[late], self.frames[late])

    @property
    def delivered(self) -> int:
        """Frames of the ramp."""
        return int(np.minimum(self.frames, self.last - self.first + 1).sum())

    @property
    def lost(self) -> int:
        """Frames missing between the first and the last one."""
        if not len(self):
            return 0
        return int(self.last[-1] - self.first[0] + 1) - self.delivered


def latencies_ms(written: Blocks, held: Blocks) -> NDArray[np.float64]:
    """For each block written, how long until its first frame was held; lost ones are left out."""
    if not len(held):
        return np.empty(0)
    place = np.searchsorted(held.first, written.first, side="right") - 1
    there = (place >= 0) & (written.first <= held.last[place])
    return (held.time_ns[place[there]] - written.time_ns[there]) / 1e6


def ages_ms(written: Blocks, held: Blocks) -> NDArray[np.float64]:
    """For each block held, how long ago its oldest frame was written."""
    if not len(written):
        return np.empty(0)
    place = np.searchsorted(written.first, held.first, side="right") - 1
    there = place >= 0
    return (held.time_ns[there] - written.time_ns[place[there]]) / 1e6


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long each block took, and what was lost.

    Attributes:
        latency_ms: from a block's being written or handed over to its first frame's being held.
        lost: frames between the first and the last that were not held.
    """

    latency_ms: NDArray[np.float64]
    lost: int

    @property
    def p50(self) -> float:
        """The median latency, ms."""
        return percentile(self.latency_ms, 50)

    @property
    def p99(self) -> float:
        """The latency that one of a hundred exceeds, ms."""
        return percentile(self.latency_ms, 99)


def percentile(values: NDArray[np.float64], at: float) -> float:
    """Return a percentile; infinite where there is nothing."""
    return float(np.percentile(values, at)) if len(values) else float("inf")
