"""A live level meter on the terminal, and a line below it that says how far we are."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .bars import FALL_DB_PER_S, FLOOR_DBFS, colour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

_REFRESH_S: Final = 1 / 15
_WIDTH: Final = 40


def peaks_dbfs(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each channel's peak in dB relative to 1.0, from the meter's floor up."""
    sound = np.where(np.isfinite(pcm), pcm, 0)  # as the microphone plays it
    peaks = np.abs(sound).max(axis=0, initial=0)
    return np.asarray(20 * np.log10(np.maximum(peaks, 10 ** (FLOOR_DBFS / 20))), np.float32)


class Meter:
    """A context manager. `update` may come as often as it likes; the terminal is drawn 15 Hz."""

    def __init__(self, labels: Sequence[str], total_s: float | None) -> None:
        """One bar for each label; `total_s` seconds are to come, None for nobody knows."""
        self._labels = labels
        self._total_s = total_s
        self._levels = np.full(len(labels), FLOOR_DBFS, np.float32)
        self._drawn_at = time.monotonic()
        self._live = Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True)

    def update(self, pcm: NDArray[np.float32], elapsed_s: float, note: str) -> None:
        """Show what `pcm` peaks at; frames may be none."""
        np.maximum(self._levels, peaks_dbfs(pcm), out=self._levels)
        now = time.monotonic()
        if now - self._drawn_at >= _REFRESH_S:
            self._live.update(self._drawing(elapsed_s, note), refresh=True)
            fallen = self._levels - FALL_DB_PER_S * (now - self._drawn_at)
            self._levels = np.maximum(fallen, FLOOR_DBFS).astype(np.float32)
            self._drawn_at = now

    def _drawing(self, elapsed_s: float, note: str) -> Group:
        bars = Table.grid(padding=(0, 1))
        for label, level in zip(self._labels, self._levels.tolist(), strict=True):
            bar = ProgressBar(
                total=-FLOOR_DBFS,
                completed=level - FLOOR_DBFS,
                width=_WIDTH,
                complete_style=colour(level),
                finished_style="red",
            )
            bars.add_row(f"{label:>4}", bar, _written(level))
        whole = "" if self._total_s is None else f" of {_clock(self._total_s)}"
        return Group(bars, Text(f"{_clock(elapsed_s)}{whole}  {note}"))

    def __enter__(self) -> Self:
        """Take over the last lines of the terminal until the end of the block."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back, without the meter."""
        self._live.stop()


def _written(level_dbfs: float) -> str:
    return f"{level_dbfs:5.1f} dBFS" if level_dbfs > FLOOR_DBFS else "  -inf dBFS"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"
