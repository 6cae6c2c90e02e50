"""Lines on a terminal, drawn over as often as they change."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

_HIDE_CURSOR = "\x1b[?25l"
_SHOW_CURSOR = "\x1b[?25h"
_CLEAR = "\x1b[2J\x1b[H"
_TO_THE_END = "\x1b[J"
_REST_OF_LINE = "\x1b[K"


class Screen:
    """A context manager, which leaves the last lines where they are.

    Twenty times a second a table of `rich` would cost more than all that is measured, so only the
    lines that are not as they were are written.
    """

    def __init__(self) -> None:
        self._drawn: list[str] = []
        self._size = shutil.get_terminal_size()

    def draw(self, lines: Sequence[str], size: os.terminal_size) -> None:
        """Have the screen, which is now of that size, show these lines, as many as fit."""
        sys.stdout.write(self._changes(list(lines[: max(1, size.lines - 1)]), size))
        sys.stdout.flush()

    def _changes(self, lines: list[str], size: os.terminal_size) -> str:
        before, self._drawn = self._drawn, lines
        if size != self._size:  # what was there is elsewhere now
            self._size = size
            return _CLEAR + _written(lines)
        if len(lines) != len(before):
            return _up(len(before)) + _TO_THE_END + _written(lines)
        changed = [n for n, line in enumerate(lines) if line != before[n]]
        below = {n: len(lines) - n for n in changed}
        return "".join(
            f"{_up(below[n])}{lines[n]}{_REST_OF_LINE}\r\x1b[{below[n]}B" for n in changed
        )

    def __enter__(self) -> Self:
        """Hide the cursor until the end of the block."""
        sys.stdout.write(_HIDE_CURSOR)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        sys.stdout.write(_SHOW_CURSOR)
        sys.stdout.flush()


def _written(lines: list[str]) -> str:
    return "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines)


def _up(lines: int) -> str:
    return f"\x1b[{lines}A" if lines else ""
