"""`stagebox devices`: sinks and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from stagebox.graph import Sink, Source

from . import listing

if TYPE_CHECKING:
    import argparse

    from stagebox.graph import Device, Item

NAME: Final = "devices"
HELP: Final = "list sinks and sources"
DESCRIPTION: Final = (
    "List what plays (sinks) and what can be recorded (sources). * marks the default of each;\n"
    "a sink's name is what `stagebox record --target` takes.\n\n"
    "--json prints a list of objects:\n"
    "  kind         sink or source\n"
    "  id           its number in the graph, for as long as it is there\n"
    "  name         node.name\n"
    "  description  what people know it by\n"
    "  channels     0 is unknown\n"
    "  state        running, idle, suspended, creating or error\n"
    "  default      true or false\n"
    "--json --watch prints an object a line:\n"
    '  {"event": "present", "item": {...}}   for each that is there at first; then\n'
    '  {"event": "added", "item": {...}}     or changed, or removed; and\n'
    '  {"event": "default", "kind": "sink", "name": "..."}   name null: there is none'
)
EXAMPLE: Final = "stagebox devices --watch"


def _row(item: Item, is_default: bool) -> tuple[str, ...]:
    device = cast("Device", item)
    return (
        "*" if is_default else "",
        listing.KINDS[type(item)],
        device.name,
        device.description,
        str(device.channels or "?"),
        device.state,
    )


LISTING: Final = listing.Listing(
    kinds=(Sink, Source),
    columns=("", "kind", "name", "description", "channels", "state"),
    row=_row,
    empty="no sinks and no sources: is there a session manager? `stagebox doctor` tells",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox devices` understands."""
    listing.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show them."""
    return listing.run(arguments, LISTING)
