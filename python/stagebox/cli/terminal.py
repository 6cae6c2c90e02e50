"""What a command shows: a live meter or table on a terminal, lines anywhere."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    Rows = Sequence[tuple[str, ...]]

_GAP: Final = "  "
_JOINERS: Final = "\u200c\u200d"
"""Not printable by themselves, but part of words and of emoji."""


class Display(Protocol):
    """What is told how a sound goes on."""

    def update(self, pcm: NDArray[np.float32], elapsed_s: float, note: str) -> None:
        """Show the latest sound, how many seconds there were so far, and a few words."""
        ...


class _Nothing:
    def update(self, pcm: NDArray[np.float32], elapsed_s: float, note: str) -> None:
        pass


def meter(labels: Sequence[str], total_s: float | None) -> AbstractContextManager[Display]:
    """Return a live meter where somebody is looking, and one that shows nothing elsewhere."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return contextlib.nullcontext(_Nothing())
    from .meter import Meter  # noqa: PLC0415 - it needs an extra, which a pipe does not

    return Meter(labels, total_s)


def say(message: str) -> None:
    """Print one line on stderr; stdout is for sound and results."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block quietly when nobody reads stdout any more."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()


def forget_stdout() -> None:
    """Have stdout lead nowhere: the interpreter flushes it at its end, and would complain."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - it needs the descriptor only
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


# --- tables ---------------------------------------------------------------------------------


def print_table(titles: Sequence[str], rows: Rows, empty: str) -> None:
    """Print a table: as wide as a terminal, which shows `empty` for no rows; else of full width."""
    take_any_character()
    if sys.stdout.isatty():
        from .table import print_drawn  # noqa: PLC0415 - it needs an extra, which a pipe does not

        print_drawn(titles, rows, empty)
    else:
        print(plain_table(titles, rows), flush=True)


def live_table(titles: Sequence[str], empty: str) -> AbstractContextManager[Callable[[Rows], None]]:
    """Return what draws a table over the last one on a terminal, and below it elsewhere."""
    take_any_character()
    if sys.stdout.isatty():
        from .table import live  # noqa: PLC0415 - it needs an extra, which a pipe does not

        return live(titles, empty)
    return contextlib.nullcontext(
        lambda rows: print(plain_table(titles, rows), end="\n\n", flush=True)
    )


def plain_table(titles: Sequence[str], rows: Rows) -> str:
    """Return lines whose columns begin below each other, nothing left out."""
    lines = [tuple(map(shown, row)) for row in (titles, *rows)]
    widths = [max(map(cells, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(
            cell + " " * (width - cells(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def shown(text: str) -> str:
    """Return a text without what would command a terminal; any application may name itself."""
    return "".join(
        c if c.isprintable() or c in _JOINERS else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def cells(text: str) -> int:
    """Return how many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def take_any_character() -> None:
    """Not every terminal has every character that a name may have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
