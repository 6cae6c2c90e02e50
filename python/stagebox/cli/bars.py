"""Levels as bars: how they rise, fall and are held, and how a row of a monitor is written."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from .terminal import cells, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stagebox.meters import Reading, Subject

FLOOR_DBFS: Final = -60.0
FALL_DB_PER_S: Final = 24.0
"""How fast a level falls once the sound is gone: slow enough for the eye."""

_HOLD_S: Final = 1.5
"""How long the mark of the highest level stays."""

_COLOURS: Final = ((-6.0, "red"), (-18.0, "yellow"), (FLOOR_DBFS, "green"))
"""From which peak on a bar has which colour: the usual ones of a stage desk."""

_SGR: Final = {"red": "31", "yellow": "33", "green": "32"}

_KINDS: Final = {"desktop": "desktop", "application": "app", "mic": "mic"}
_KIND_CELLS: Final = 7
_NAME_CELLS: Final = 18
_BEGIN_CELLS: Final = _KIND_CELLS + _NAME_CELLS + 2 * 2
"""Before the bar: kind, gap, name, gap."""
_BAR_CELLS: Final = range(10, 41)
_GAP: Final = "  "
_FIGURES: Final = ("peak", "rms", "lost", "underruns", "ms")
_FIGURE_CELLS: Final = (5, 5, 6, 9, 5)
_NO_BAR: Final = {"desktop": "idle", "application": "paused", "mic": "unrecorded"}

_FIGURES_EVERY: Final = 5
"""Draws: nobody reads digits twenty times a second, and they cost more than the bars."""


def colour(level_dbfs: float) -> str:
    """Return the name of a bar's colour."""
    return next((colour for least, colour in _COLOURS if level_dbfs >= least), "green")


class Needle:
    """A level as the eye can follow it: up at once, down slowly, its highest held for a moment."""

    def __init__(self) -> None:
        self.level_dbfs = FLOOR_DBFS
        self.held_dbfs = FLOOR_DBFS
        self._held_s = 0.0
        self._moved_s = 0.0

    def move(self, peak_dbfs: float | None, now_s: float) -> None:
        """Take the peak since the last time; None is silence."""
        fallen = self.level_dbfs - FALL_DB_PER_S * (now_s - self._moved_s)
        self.level_dbfs = max(fallen, FLOOR_DBFS if peak_dbfs is None else peak_dbfs, FLOOR_DBFS)
        self._moved_s = now_s
        if self.level_dbfs >= self.held_dbfs or now_s - self._held_s > _HOLD_S:
            self.held_dbfs, self._held_s = self.level_dbfs, now_s


def bar(level: int, held: int, width: int) -> str:
    """Return a bar with so many of its cells filled, and a mark at the highest that was."""
    if held <= level:
        return "━" * level + " " * (width - level)
    return "━" * level + " " * (held - level - 1) + "│" + " " * (width - held)


def cells_of(level_dbfs: float, width: int) -> int:
    """Return how many of a bar's cells a level fills."""
    return min(width, round((level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS * width))


class Bars:
    """Readings as lines, each with a needle of its own."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured
        self._lines: dict[tuple[str, int | None], _Line] = {}
        self._draws = 0

    def lines(self, readings: Sequence[Reading], now_s: float, width: int) -> list[str]:
        """Return a title and a line for each, none as wide as the terminal."""
        keys = [(reading.of.kind, reading.of.id) for reading in readings]
        if self._lines.keys() != set(keys):
            self._lines = {key: self._lines.get(key) or _Line(self._coloured) for key in keys}
        anew = self._draws % _FIGURES_EVERY == 0
        self._draws += 1
        return [
            _title(width),
            *(
                self._lines[key].drawn(reading, now_s, width, anew=anew)
                for key, reading in zip(keys, readings, strict=True)
            ),
        ]


class _Line:
    """One of them, put together when something in it is to look different."""

    def __init__(self, coloured: bool) -> None:
        self._coloured = coloured
        self._needle = Needle()
        self._figures = ""
        self._of: tuple[Subject, int] | None = None
        self._key: tuple[int, int, str] | None = None
        self._drawn = ""

    def drawn(self, reading: Reading, now_s: float, width: int, *, anew: bool) -> str:
        needle = self._needle
        needle.move(reading.peak_dbfs, now_s)
        if anew or (reading.of, width) != self._of:
            self._figures = _right(figures(reading, needle.held_dbfs), width).rstrip()
        room = _bar_cells(width)
        level, held = cells_of(needle.level_dbfs, room), cells_of(needle.held_dbfs, room)
        key = level, held, self._figures
        if key != self._key or (reading.of, width) != self._of:
            self._key, self._of = key, (reading.of, width)
            self._drawn = self._put_together(reading.of, level, held, width)
        return self._drawn

    def _put_together(self, of: Subject, level: int, held: int, width: int) -> str:
        begin = f"{fitted(_KINDS[of.kind], _KIND_CELLS)}{_GAP}{fitted(label(of), _NAME_CELLS)}"
        room = _bar_cells(width)
        if width <= _BEGIN_CELLS + room:  # so narrow a terminal shows a name at most
            return fitted(begin, width - 1).rstrip()
        if not (of.running or held):
            return f"{begin}{_GAP}{fitted(_NO_BAR[of.kind], room)}{self._figures}".rstrip()
        drawn = bar(level, held, room)
        if self._coloured:
            drawn = f"\x1b[{_SGR[colour(self._needle.level_dbfs)]}m{drawn}\x1b[0m"
        return f"{begin}{_GAP}{drawn}{self._figures}"


def _bar_cells(width: int) -> int:
    rest = width - 1 - _BEGIN_CELLS - sum(_FIGURE_CELLS) - len(_GAP) * len(_FIGURES)
    return min(max(rest, _BAR_CELLS[0]), _BAR_CELLS[-1])


@functools.lru_cache(maxsize=1)
def _title(width: int) -> str:
    before = " " * (_BEGIN_CELLS + _bar_cells(width))
    return (before + _right(_FIGURES, width)).rstrip()


def label(of: Subject) -> str:
    """Return what people know it by: as much of the name as goes before the process id."""
    name = shown(of.name) or "no default sink"
    process = "" if of.pid is None else f" {of.pid}"
    return fitted(name, min(cells(name), _NAME_CELLS - len(process))) + process


def figures(reading: Reading, peak_dbfs: float | None) -> tuple[str, ...]:
    """Return that peak and the RMS in dBFS, lost frames, underruns and latency in ms."""
    running = reading.of.running
    return (
        _level(peak_dbfs) if running else "",
        _level(reading.rms_dbfs) if running else "",
        str(reading.lost_frames),
        "" if reading.underruns is None else str(reading.underruns),
        "" if reading.latency_ms is None else f"{reading.latency_ms:.0f}",
    )


def _level(dbfs: float | None) -> str:
    return "-inf" if dbfs is None or dbfs <= FLOOR_DBFS else f"{dbfs:.1f}"


def _right(texts: Sequence[str], width: int) -> str:
    """Below each other, those for which a terminal has room: half a number would be another."""
    room = width - 1 - _BEGIN_CELLS - _bar_cells(width)
    line = ""
    for text, figure_cells in zip(texts, _FIGURE_CELLS, strict=True):
        column = _GAP + text.rjust(figure_cells)
        if len(line) + len(column) > room:
            break
        line += column
    return line


def fitted(text: str, width: int) -> str:
    """Return a text that takes so many cells: with spaces after it, or cut."""
    if cells(text) <= width:
        return text + " " * (width - cells(text))
    while text and cells(text) > width - 1:
        text = text[:-1]
    return fitted(text + "…", width) if width > 0 else ""
