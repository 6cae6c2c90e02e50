"""What is in the graph: sinks, sources, the applications that play, and what becomes of them.

with Graph() as graph:
    for application in graph.applications():
        print(application.name, application.plays_into)
    for change in graph.watch():
        print(change)
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Self

from . import _native
from .errors import GraphClosed
from .graph_state import (
    Added,
    Application,
    Change,
    Changed,
    Daemon,
    DefaultChanged,
    Device,
    GraphState,
    Item,
    Removed,
    Sink,
    Snapshot,
    Source,
    differences,
    records_in,
)
from .readable import readable
from .unshared import Unshared

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator

__all__ = [
    "Added",
    "Application",
    "Change",
    "Changed",
    "Daemon",
    "DefaultChanged",
    "Device",
    "Graph",
    "Item",
    "Removed",
    "Sink",
    "Snapshot",
    "Source",
    "Watch",
    "libpipewire_version",
    "socket_paths",
]


def libpipewire_version() -> str:
    """Return the version of the libpipewire that is loaded, "0.3.65".

    Raises PipeWireUnavailable where there is none, and UnsupportedPlatform: not Linux.
    """
    return _native.libpipewire_version()


def socket_paths(remote: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Return where the socket of the daemon `remote` is looked for, best first."""
    return tuple(_native.socket_paths(remote))


class Graph(Unshared):
    """A look at the graph of one daemon; a context manager, also an asynchronous one.

    What it returns are values that stay as they are. Every method may be called from any thread.
    Each look takes one round trip to the daemon, a millisecond where that has nothing else to do,
    and a second one if something has just come.

    All methods raise GraphClosed once it is closed, and DaemonAbsent once the daemon is gone:
    open another then.
    """

    def __init__(self, *, remote: str | os.PathLike[str] | None = None) -> None:
        """Look at the graph of the daemon `remote`, as for `open_audio_capture`.

        Raises PipeWireUnavailable: no library, no daemon, or no answer within 5 s; and
        UnsupportedPlatform: not Linux.
        """
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        self._connection = _native.connect(remote, deadline, "graph")
        self._feed = _native.Feed(self._connection)
        self._state = GraphState()
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._lock = threading.RLock()  # reentrant: a signal's handler may look too
        self._catch_up(deadline)

    def snapshot(self) -> Snapshot:
        """All there is at one moment."""
        with self._lock:
            self._catch_up(_native.Deadline(_native.OPEN_TIMEOUT))
            return self._state.snapshot()

    def sinks(self) -> tuple[Sink, ...]:
        """What plays."""
        return self.snapshot().sinks

    def sources(self) -> tuple[Source, ...]:
        """What can be recorded, our own microphones among it; no sink's monitor."""
        return self.snapshot().sources

    def applications(self) -> tuple[Application, ...]:
        """The streams that applications play, also while they pause."""
        return self.snapshot().applications

    def default_sink(self) -> Sink | None:
        """The sink that applications play into unless told otherwise; None where there is none."""
        return self.snapshot().default_sink

    def default_source(self) -> Source | None:
        """The source that applications record unless told otherwise.

        None where there is none, also where that is a sink's monitor, which is no source here.
        """
        return self.snapshot().default_source

    def daemon(self) -> Daemon:
        """What runs the graph, and how it is set to."""
        with self._lock:
            self._catch_up(_native.Deadline(_native.OPEN_TIMEOUT))
            return self._state.daemon()

    def watch(self) -> Watch:
        """Return what tells of every change from now on: an iterator, also an asynchronous one."""
        with self._lock:
            self._catch_up(_native.Deadline(_native.OPEN_TIMEOUT))
            watch = Watch(self, self._state.snapshot())
            self._watches.add(watch)
            return watch

    def close(self) -> None:
        """Look no more; watches end. Twice is fine."""
        self._feed.close()

    def __enter__(self) -> Self:
        """Return the graph, which is closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the graph, which is closed at the end of the block."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    # --- for watches -------------------------------------------------------------------------

    def _pull(self) -> None:
        """Take what waits, and tell the watches."""
        with self._lock:
            try:
                changes = self._changes_in(self._feed.take())
            except OverflowError:
                changes = self._begin_anew()
            if changes:
                for watch in self._watches:
                    watch._told.extend(changes)  # noqa: SLF001 - one thing with it

    def _wait(self) -> None:
        feed = self._feed
        try:
            feed.wait(_native.Deadline(_native.OPEN_TIMEOUT))
        except GraphClosed:
            if feed is self._feed:
                raise
        self._pull()

    async def _readable(self) -> None:
        await readable(self._feed.duplicate_fd())
        self._pull()

    # --- within ------------------------------------------------------------------------------

    def _catch_up(self, deadline: _native.Deadline) -> None:
        """Know all that has happened so far, and all there is to know of it."""
        self._feed.sync(deadline)
        self._pull()
        while not self._state.complete:
            self._feed.sync(deadline)
            self._pull()

    def _changes_in(self, records: bytes) -> list[Change]:
        return [change for record in records_in(records) for change in self._state.apply(record)]

    def _begin_anew(self) -> list[Change]:
        """So much went unread that the rest was dropped: what has become of it all is what counts.

        Only one who looks after hours comes here, or who does while thousands of things change.
        """
        before, overrun = self._state.snapshot(), self._feed
        self._feed, self._state = _native.Feed(self._connection), GraphState()
        overrun.close()
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        self._feed.sync(deadline)
        self._changes_in(self._feed.take())
        while not self._state.complete:
            self._feed.sync(deadline)
            self._changes_in(self._feed.take())
        return differences(before, self._state.snapshot())


class Watch(Unshared):
    """Every change to a graph, one after the other. Ends when the graph is closed.

    One thread or task at a time takes from a watch; a graph can have many.
    """

    def __init__(self, graph: Graph, before: Snapshot) -> None:
        """Not for callers: use `Graph.watch()`."""
        self._graph = graph
        self._before = before
        self._told: deque[Change] = deque()

    @property
    def before(self) -> Snapshot:
        """What there was when it began: the changes are to that."""
        return self._before

    @property
    def pending(self) -> int:
        """How many of the changes that are known already are still to be taken."""
        return len(self._told)

    def __iter__(self) -> Iterator[Change]:
        """Return itself."""
        return self

    def __next__(self) -> Change:
        """Wait for the next change. Raises DaemonAbsent once the daemon is gone."""
        while not self._told:
            try:
                self._graph._wait()  # noqa: SLF001 - one thing with it
            except GraphClosed:
                if not self._told:
                    raise StopIteration from None
        return self._told.popleft()

    def __aiter__(self) -> AsyncIterator[Change]:
        """Return itself."""
        return self

    async def __anext__(self) -> Change:
        """Wait for the next change; never blocks the loop. Errors as in `__next__`."""
        while not self._told:
            try:
                await self._graph._readable()  # noqa: SLF001 - one thing with it
            except GraphClosed:
                if not self._told:
                    raise StopAsyncIteration from None
        return self._told.popleft()
