"""Where on the disk things are kept."""

# Asked at every open, and pathlib takes milliseconds to import.
# ruff: noqa: PTH110, PTH111, PTH117, PTH118

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def ledger_exists() -> bool:
    """Whether anything of ours has claimed a default, and not given it back."""
    return os.path.exists(_ledger())


def ledger() -> Path:
    """Return the file of `ledger.py`, in the XDG state directory; a relative one does not count."""
    from pathlib import Path  # noqa: PLC0415 - as above

    return Path(_ledger())


def _ledger() -> str:
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return os.path.join(state, "stagebox", "defaults.json")
