"""`stagebox restore`: the defaults as they were before a program was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stagebox import claims

from . import options, terminal

if TYPE_CHECKING:
    import argparse

    from stagebox.claims import Holder, Restored

NAME: Final = "restore"
HELP: Final = "put back a default that a killed program has left"
DESCRIPTION: Final = (
    "While a program has a sink of stagebox's, or its microphone as the session's default,\n"
    "what the user had chosen is kept in a file. Where that program was killed this puts it\n"
    "back. What is still held is left alone, and so is what the user has chosen since."
)
EXAMPLE: Final = "stagebox restore"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox restore` understands."""
    options.add_remote(parser)


def run(arguments: argparse.Namespace) -> int:
    """Put back what there is to put back, and say what that was."""
    restored = claims.restore(arguments.remote)
    held = claims.holders(arguments.remote)
    for line in (*map(_told, restored), *map(_held, held)):
        print(terminal.shown(line))
    if not restored and not held:
        print("nothing to put back")
    return 0


def _told(restored: Restored) -> str:
    if restored.choice is None:
        return f"the default {restored.kind} is the session manager's choice again"
    return f"the default {restored.kind} is {restored.choice} again"


def _held(holder: Holder) -> str:
    if not holder.here:
        return f"the default {holder.kind} that {holder.name} has left is still to be put back"
    return f"the default {holder.kind} is held by {holder.name}, which is in use"
