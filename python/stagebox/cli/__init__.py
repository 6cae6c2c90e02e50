"""The command `stagebox`: one module a command, all on the public API."""

from .entry import main

__all__ = ["main"]
