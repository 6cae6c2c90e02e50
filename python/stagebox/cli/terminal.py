"""What a command shows: a live meter on a terminal, one line on stderr anywhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray


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
