"""Links of our own: which applications a capture hears, and the thread that keeps links up.

What is wanted is decided from what is in the graph; `Router` has it made so whenever that changes.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, SupportsIndex

from . import _native, arguments
from .errors import GraphClosed, StageboxError
from .graph_state import GraphState, records_in

if TYPE_CHECKING:
    from .graph_state import Application, Port

    Ends = tuple[Port, Port]
    Wanted = Callable[[GraphState], set[Ends]]

ROUTE: Final = "stagebox.route"
"""The property by which a capture's node is known to its router: csrc/capture.c."""

CHANNEL_COUNTS: Final = (2, 6, 8)
"""Applications mixed into one channel would be as loud as all of their channels together."""

_LEFT: Final = (("FL",), ("MONO",), ("AUX0",))
_RIGHT: Final = (("FR",), ("MONO",), ("AUX1",))
_MIDDLE: Final = (("FL", "FR"), ("MONO",), ("AUX0", "AUX1"))

_INSTEAD: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "MONO": _MIDDLE,
    "FL": _LEFT,
    "FR": _RIGHT,
    "FC": _MIDDLE,
    "LFE": _MIDDLE,
    "SL": (("RL",), *_LEFT),
    "SR": (("RR",), *_RIGHT),
    "RL": (("SL",), *_LEFT),
    "RR": (("SR",), *_RIGHT),
    "RC": (("RL", "RR"), *_MIDDLE),
    "AUX0": _LEFT,
    "AUX1": _RIGHT,
}
"""Where a channel goes that is not there: the first of these that is."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """Applications: these, or all but these."""

    names: frozenset[str]
    """Names and binaries, in lower case."""
    pids: frozenset[int]
    others: bool
    """All but these."""

    def has(self, application: Application) -> bool:
        """Whether it is to be heard."""
        named = {application.name.lower(), application.binary.lower()} & self.names
        return (bool(named) or application.pid in self.pids) != self.others


def choice(apps: Iterable[str | int] | None, except_apps: Iterable[str | int] | None) -> Choice:
    """Check the arguments, of which one is given: names, binaries and process ids."""
    if apps is not None:
        return Choice(*_listed("apps", apps), others=False)
    return Choice(*_listed("except_apps", except_apps or ()), others=True)


def _listed(name: str, applications: Iterable[str | int]) -> tuple[frozenset[str], frozenset[int]]:
    if isinstance(applications, (str, bytes)) or not isinstance(applications, Iterable):
        raise TypeError(f"{name} must be a list of names and process ids, not {applications!r}")
    names, pids = set(), set()
    for application in applications:
        if isinstance(application, str):
            arguments.text(name, application)
            names.add(application.lower())
        else:
            pids.add(_pid(name, application))
    if not names and not pids:
        raise ValueError(f"{name} must hold at least one name or process id")
    return frozenset(names), frozenset(pids)


def _pid(name: str, value: SupportsIndex) -> int:
    pid = arguments.whole(name, value)
    if pid < 1:
        raise ValueError(f"{name} must hold process ids of 1 or more, not {pid}")
    return pid


def wanted(state: GraphState, chosen: Choice, route: str) -> set[Ends]:
    """Links from every port of every application that is to be heard to the capture's."""
    inputs = state.inputs_of(ROUTE, route)
    return {
        link
        for application, outputs in state.applications()
        if chosen.has(application)
        for link in links(outputs, inputs)
    }


def links(outputs: Iterable[Port], inputs: Iterable[Port]) -> set[Ends]:
    """Each output to the input of its channel, or what is nearest to that."""
    by_channel = {port.channel: port for port in inputs}
    return {
        (output, by_channel[channel])
        for output in outputs
        for channel in _channels(output.channel, by_channel)
    }


def _channels(channel: str, inputs: Mapping[str, Port]) -> Iterable[str]:
    if channel in inputs:
        return (channel,)
    instead = _INSTEAD.get(channel, ())
    return next((there for there in instead if all(one in inputs for one in there)), ())


class Router:
    """Keeps the links that are wanted, in a thread of its own.

    It ends when it is closed or forgotten, and with the daemon.
    """

    def __init__(self, connection: _native.Connection, wanted: Wanted) -> None:
        """Begin."""
        feed = _native.Feed(connection)
        work = _Work(connection, feed, wanted)
        thread = threading.Thread(target=work.run, name="stagebox-router", daemon=True)
        self._end = weakref.finalize(self, feed.close)
        self._end.atexit = False
        try:
            thread.start()
        except RuntimeError:  # no more threads are to be had
            self._end()
            raise

    def close(self) -> None:
        """Undo the links. Twice is fine."""
        self._end()


class _Work:
    """What the thread does."""

    def __init__(self, connection: _native.Connection, feed: _native.Feed, wanted: Wanted) -> None:
        self._connection = connection
        self._feed = feed
        self._wanted = wanted
        self._state = GraphState()
        self._links: dict[Ends, _native.Made] = {}
        self._refused = 0

    def run(self) -> None:
        """Link, until the feed is closed or the daemon gone."""
        try:
            while True:
                self._feed.wait(_native.Deadline(_native.OPEN_TIMEOUT))
                for record in records_in(self._feed.take()):
                    self._state.apply(record)
                self._link()
        except GraphClosed:
            pass
        except StageboxError as error:
            _log.info("no more links are made: %s", error)
        except BaseException:
            _log.exception("the router stops: its thread failed")
            raise
        finally:
            for link in self._links.values():
                link.close()

    def _link(self) -> None:
        ends = self._wanted(self._state)
        for gone in self._links.keys() - ends:
            self._links.pop(gone).close()
        for new in ends - self._links.keys():
            self._links[new] = _native.Made.link(self._connection, *new)
        for failed in [ends for ends, link in self._links.items() if link.error]:
            self._give_up(self._links.pop(failed))

    def _give_up(self, link: _native.Made) -> None:
        """For now: it is tried again as soon as anything changes in the graph.

        Mostly an end of it has just gone, of which we have not been told yet.
        """
        self._refused += 1
        if self._refused.bit_count() == 1:
            _log.info("a link could not be made (%s), %d so far", link.error, self._refused)
        link.close()
