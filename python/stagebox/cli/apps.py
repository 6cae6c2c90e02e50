"""`stagebox apps`: the applications that play."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from stagebox.graph import Application

from . import listing

if TYPE_CHECKING:
    import argparse

    from stagebox.graph import Item

NAME: Final = "apps"
HELP: Final = "list the applications that play"
DESCRIPTION: Final = (
    "List the streams that applications play, also while they pause.\n\n"
    "--json prints a list of objects:\n"
    "  kind         application\n"
    "  id           the stream's number in the graph, for as long as it is there\n"
    "  name         what the application calls itself\n"
    "  binary       its program's file; empty where it does not say\n"
    "  pid          its process; 0 where it does not say\n"
    "  media_name   what it plays: a title, a tab's name\n"
    "  plays_into   a list: the node.name of each node it is linked to\n"
    "  playing      true or false: it pauses\n"
    "--json --watch prints an object a line:\n"
    '  {"event": "present", "item": {...}}   for each that is there at first; then\n'
    '  {"event": "added", "item": {...}}     or changed, or removed'
)
EXAMPLE: Final = "stagebox apps --json"


def _row(item: Item, _: bool) -> tuple[str, ...]:
    application = cast("Application", item)
    return (
        application.name,
        application.binary,
        str(application.pid or ""),
        application.media_name,
        ", ".join(application.plays_into),
        "playing" if application.playing else "paused",
    )


LISTING: Final = listing.Listing(
    kinds=(Application,),
    columns=("name", "binary", "pid", "media", "plays into", "state"),
    row=_row,
    empty="no application plays",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox apps` understands."""
    listing.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show them."""
    return listing.run(arguments, LISTING)
