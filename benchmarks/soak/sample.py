"""One second of a soak, and the file of them."""

from __future__ import annotations

import csv
import ctypes
import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters that can be added up and compared with what they were."""

    # Not by dataclasses.astuple: it fills CPython's store of spare tuples, and memory is watched.
    def __add__(self, other: Self) -> Self:
        return type(self)(
            *[getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__]
        )

    def __sub__(self, other: Self) -> Self:
        return type(self)(
            *[getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__]
        )


@dataclass(frozen=True, slots=True)
class CaptureCounts(Counts):
    """Of a capture: `lost` by its own count; `skipped` and `wrong` are a `RampCheck`'s."""

    frames: int = 0
    cycles: int = 0
    lost: int = 0
    skipped: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class MicCounts(Counts):
    """Of a microphone, as `stagebox.MicStats` has them."""

    underruns: int = 0
    reprimes: int = 0
    dropped: int = 0
    trimmed: int = 0
    stale: int = 0


@dataclass(frozen=True, slots=True)
class PumpCounts(Counts):
    """Of the pump: `dropped` are packets, for want of room or of a microphone."""

    packets: int = 0
    dropped: int = 0
    opens: int = 0
    deaths: int = 0


class _Mallinfo2(ctypes.Structure):
    """glibc's account of what malloc gave."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _Mallinfo2


@dataclass(frozen=True, slots=True)
class Process:
    """What this process takes.

    Attributes:
        rss_kib: resident memory, as the kernel counts it page by page.
        heap_kib: what malloc gave and nobody has freed. Resident memory also holds what was freed
            and malloc keeps, in an arena for each thread that there ever was.
        python_blocks: what Python's own allocator gave and nobody has freed.
    """

    rss_kib: int
    heap_kib: int
    python_blocks: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Process:
        """Ask the kernel, glibc and Python."""
        heap = _mallinfo2()
        # Not /proc/self/status, whose sums the kernel brings up to date only now and then.
        rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
        rss = next(line for line in rollup if line.startswith("Rss:"))
        return cls(
            rss_kib=int(rss.split()[1]),
            heap_kib=(heap.uordblks + heap.hblkhd) // 1024,
            python_blocks=sys.getallocatedblocks(),
            descriptors=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - a count, not paths
            threads=len(os.listdir("/proc/self/task")),  # noqa: PTH208
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One second; counters say by how much they grew in it.

    Attributes:
        elapsed_s: since the streams were opened.
        open_streams: of the four.
        restarting: 1 while the daemon restarts, and until all can be expected to be back.
        recorder_changed: 1 when the recorder came or went a moment ago.
        recording: which microphone it records, 1 to 3, or 0.
        recorded_mics: how many it has recorded since the daemon started.
        capture_late_ms: how old the newest frame of a chunk was when we had it, at most.
        mic1_late_ms, mic2_late_ms, pump_late_ms: how late a block or packet was sent, at most.
    """

    elapsed_s: int
    process: Process
    open_streams: int
    restarting: int
    recorder_changed: int
    recording: int
    recorded_mics: int
    capture: CaptureCounts
    capture_late_ms: int
    mic1: MicCounts
    mic1_late_ms: int
    mic2: MicCounts
    mic2_late_ms: int
    pump: PumpCounts
    pump_mic: MicCounts
    pump_late_ms: int


def flat(sample: Sample) -> dict[str, int]:
    """Return the columns of a sample: a part's are named after it, but for the process's."""
    columns: dict[str, int] = {}
    for name in sample.__dataclass_fields__:
        value = getattr(sample, name)
        if not dataclasses.is_dataclass(value):
            columns[name] = value
            continue
        prefix = "" if name == "process" else f"{name}_"
        for part in value.__dataclass_fields__:
            columns[prefix + part] = getattr(value, part)
    return columns


class SampleFile:
    """Writes samples as they come, so that none is lost and none is kept in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False

    def add(self, sample: Sample) -> None:
        """Write one."""
        columns = flat(sample)
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerow(columns.values())
        self._file.flush()


def read_samples(path: Path) -> NDArray[Any]:
    """Return a structured array: a row a sample, `rows["rss_kib"]` a column."""
    return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))
