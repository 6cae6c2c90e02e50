"""A table of what is in the graph, once or anew at each change, for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from stagebox.graph import (
    Added,
    Application,
    Change,
    Changed,
    DefaultChanged,
    Device,
    Graph,
    Item,
    Removed,
    Sink,
    Snapshot,
    Source,
)

from . import options, terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

KINDS: Final[dict[type[Item], str]] = {
    Sink: "sink",
    Source: "source",
    Application: "application",
}
"""What JSON calls them."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a command shows.

    Attributes:
        kinds: of the items, whatever else there is.
        columns: the titles.
        row: an item's cells, as many; told whether it is a default.
        empty: what a terminal shows where there is none.
    """

    kinds: tuple[type[Item], ...]
    columns: tuple[str, ...]
    row: Callable[[Item, bool], tuple[str, ...]]
    empty: str


class Seen:
    """What there is, kept up to date by what a watch tells."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Begin with what there was."""
        items: tuple[Item, ...] = (
            *snapshot.sinks,
            *snapshot.sources,
            *snapshot.applications,
        )
        self._items: dict[tuple[type[Item], int], Item] = {_key(item): item for item in items}
        self._defaults = {
            "sink": _name_of(snapshot.default_sink),
            "source": _name_of(snapshot.default_source),
        }

    def apply(self, change: Change) -> None:
        """Take a change."""
        match change:
            case Added(item) | Changed(_, item):
                self._items[_key(item)] = item
            case Removed(item):
                self._items.pop(_key(item), None)
            case DefaultChanged(kind, name):
                self._defaults[kind] = name

    def of(self, listing: Listing) -> list[Item]:
        """Return what a listing shows, its kinds one after the other."""
        items = self._items.values()
        return [item for kind in listing.kinds for item in items if isinstance(item, kind)]

    def is_default(self, item: Item) -> bool:
        """Whether it is what applications use unless told otherwise."""
        return isinstance(item, Device) and item.name == self._defaults[KINDS[type(item)]]

    def as_json(self, item: Item) -> dict[str, Any]:
        """Return what `--json` prints of an item."""
        told = {"kind": KINDS[type(item)], **asdict(item)}
        return told | {"default": self.is_default(item)} if isinstance(item, Device) else told


def _key(item: Item) -> tuple[type[Item], int]:
    return type(item), item.id


def _name_of(device: Device | None) -> str | None:
    return device.name if device else None


# --- a command ------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the commands that list something understand."""
    parser.add_argument(
        "--json", action="store_true", help="a list of objects; with --watch an object a line"
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it anew at each change, until Ctrl-C"
    )
    options.add_remote(parser)


def run(arguments: argparse.Namespace, listing: Listing) -> int:
    """Show it, once or until a signal, the daemon's end or the end of the pipe."""
    with Graph(remote=arguments.remote) as graph, terminal.reader_may_leave():
        if not arguments.watch:
            _show(Seen(graph.snapshot()), listing, as_json=arguments.json)
        elif arguments.json:
            _follow_as_json(graph, listing)
        else:
            _follow(graph, listing)
    return 0


def _show(seen: Seen, listing: Listing, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([seen.as_json(item) for item in seen.of(listing)], indent=2))
    else:
        terminal.print_table(listing.columns, _rows(seen, listing), listing.empty)


def _rows(seen: Seen, listing: Listing) -> list[tuple[str, ...]]:
    return [listing.row(item, seen.is_default(item)) for item in seen.of(listing)]


def _follow(graph: Graph, listing: Listing) -> None:
    watch = graph.watch()
    seen = Seen(watch.before)
    with terminal.live_table(listing.columns, listing.empty) as show:
        shown = None
        while True:
            # What comes at once is shown at once, and other people's changes not at all.
            if not watch.pending and shown != (rows := _rows(seen, listing)):
                show(rows)
                shown = rows
            seen.apply(next(watch))


def _follow_as_json(graph: Graph, listing: Listing) -> None:
    watch = graph.watch()
    seen = Seen(watch.before)
    for item in seen.of(listing):
        _print_line({"event": "present", "item": seen.as_json(item)})
    for change in watch:
        for told in told_of(change, seen, listing):
            _print_line(told)


def _print_line(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def told_of(change: Change, seen: Seen, listing: Listing) -> Iterator[dict[str, Any]]:
    """Yield what `--json --watch` prints of a change; nothing where the listing has none of it."""
    match change:
        case DefaultChanged(kind, name):
            seen.apply(change)
            if kind in map(KINDS.get, listing.kinds):
                yield {"event": "default", "kind": kind, "name": name}
        case Added(item) | Removed(item) | Changed(_, item):
            if isinstance(item, listing.kinds):
                yield {"event": type(change).__name__.lower(), "item": seen.as_json(item)}
            seen.apply(change)
