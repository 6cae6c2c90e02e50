"""What this process holds of the machine: what must not grow."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
MALLOC_IS_LIBCS = not re.search(r"lib[at]san", Path("/proc/self/maps").read_text())
"""A sanitizer's own keeps what was freed, so memory grows though nothing is lost."""


_LIBC = ctypes.CDLL(None)
_HAS_GLIBC = hasattr(_LIBC, "mallopt")
if _HAS_GLIBC:
    # Until the first large block is freed each has pages of its own, untouched where it is zero;
    # later ones would come from the heap. Then two footprints of the same would not be the same.
    m_mmap_threshold = -3  # malloc.h
    _LIBC.mallopt(m_mmap_threshold, 128 * 1024)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Threads and open descriptors, and memory in use."""

    threads: int
    descriptors: int
    resident_kib: int

    @classmethod
    def now(cls) -> Footprint:
        """As it is, without garbage and without what malloc keeps though it is free."""
        gc.collect()
        if _HAS_GLIBC:
            _LIBC.malloc_trim(0)
        return cls(
            threads=len(list(Path("/proc/self/task").iterdir())),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            resident_kib=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB,
        )

    @property
    def held(self) -> tuple[int, int]:
        """Threads and descriptors."""
        return self.threads, self.descriptors

    def assert_grown_by_at_most(self, resident_kib: int) -> int:
        """Compare with how it is now; how many KiB it grew by."""
        after = Footprint.now()
        deadline = time.monotonic() + 1  # a thread that was joined is listed for a moment still
        while after.held != self.held and time.monotonic() < deadline:
            after = Footprint.now()
        assert after.held == self.held
        grown = after.resident_kib - self.resident_kib
        assert not MALLOC_IS_LIBCS or grown <= resident_kib, f"{grown} KiB more"
        return grown
