"""A table on a terminal: in colours, and no wider than it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .terminal import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .terminal import Rows

_STYLES: Final = {"running": "green", "playing": "green", "error": "red", "*": "bold"}
"""Of a cell that says no more than this."""


def print_drawn(titles: Sequence[str], rows: Rows, empty: str) -> None:
    """Print it."""
    Console(highlight=False).print(_drawing(titles, rows, empty))


@contextlib.contextmanager
def live(titles: Sequence[str], empty: str) -> Iterator[Callable[[Rows], None]]:
    """Yield what draws rows over the last ones; those stay when the block ends."""
    with Live(console=Console(highlight=False), auto_refresh=False) as screen:
        yield lambda rows: screen.update(_drawing(titles, rows, empty), refresh=True)


def _drawing(titles: Sequence[str], rows: Rows, empty: str) -> Table | Text:
    if not rows:
        return Text(empty, style="dim")
    table = Table(box=box.ROUNDED)
    for title in titles:
        table.add_column(title, overflow="fold")  # what is too long goes on below
    for row in rows:
        table.add_row(*(Text(shown(cell), style=_STYLES.get(cell, "")) for cell in row))
    return table
