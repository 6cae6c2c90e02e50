"""Making something of ours the default sink or source, and putting the user's choice back.

`ledger.py` says what is to be done and remembers it, this does it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from . import _native, ledger
from .errors import PipeWireUnavailable, StageboxError
from .graph import Graph
from .graph_state import CONFIGURED, name_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .graph_state import GraphState

Kind = Literal["sink", "source"]
KINDS: Final[tuple[Kind, ...]] = ("sink", "source")

OWN_SINK: Final = "stagebox-own-sink"
"""The `node.name` of a sink of our own; that of a second begins with it. It is the same each time,
as session managers remember for ever what was chosen."""

_KNOWN_WITHIN_S: Final = 2.0
_WAITS_UNTIL_ASKED: Final = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """A claim that is in the ledger."""

    kind: Kind
    """Of which default."""
    name: str
    """The `node.name` that claimed it."""
    here: bool
    """Whether it is in the graph; if not it was killed, and the user's choice is not yet back."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A default that was put right."""

    kind: Kind
    """Which."""
    choice: str | None
    """The `node.name` that is chosen now; None: the user had chosen none."""


def holders(remote: str | os.PathLike[str] | None = None) -> tuple[Holder, ...]:
    """Return the claims to the defaults of the daemon `remote`, oldest first.

    Raises as `Graph` does.
    """
    with _Defaults(remote=remote) as defaults:
        claims = ledger.entries(ledger.path(), defaults.socket)
        return tuple(
            Holder(kind, name, name in defaults.names(kind))
            for kind in KINDS
            if kind in claims
            for name in claims[kind].claims
        )


def restore(remote: str | os.PathLike[str] | None = None) -> tuple[Restored, ...]:
    """Put back what those have left that were killed while something of theirs was the default.

    Returns what was put back, nothing where all is well.

    Raises as `Graph` does; PipeWireUnavailable also where no session manager answers, StageboxError
    and OSError if the ledger cannot be used.
    """
    with at_desk(remote) as desk:
        return tuple(put for kind in KINDS if (put := desk.settle(kind)) is not None)


def claim(remote: str, kind: Kind, name: str) -> Claim:
    """Make the node of that name, which is in the graph, the default until the claim's release.

    Raises as `Desk.claim` and `at_desk` do.
    """
    with at_desk(remote) as desk:
        return desk.claim(kind, name)


class Claim:
    """Something of ours is the default, until it is released or forgotten, or the program ends."""

    def __init__(self, daemon: str, kind: Kind, name: str, device: str | None) -> None:
        """For `Desk.claim()`."""
        self.device: Final = device
        """The `node.name` of what was the default before; None: there was nothing."""
        self._end = weakref.finalize(self, _release, daemon, kind, name, os.getpid())

    def release(self) -> None:
        """Put back what was before, unless another claims it or the user chose. Twice is fine."""
        self._end()


def _release(daemon: str, kind: Kind, name: str, pid: int) -> None:
    if os.getpid() != pid:  # the claim is the parent's
        return
    try:
        with at_desk(daemon) as desk:
            desk.settle(kind, without=name)
    except (StageboxError, OSError) as error:
        _log.warning("the default %s was not put back; `stagebox restore` does it: %s", kind, error)


@contextlib.contextmanager
def at_desk(remote: str | os.PathLike[str] | None) -> Iterator[Desk]:
    """Have one daemon's defaults to oneself, as far as it is us who change them.

    Raises as `Graph` does; StageboxError and OSError if the ledger cannot be used.
    """
    connection = _native.connect(remote, _native.Deadline(_native.OPEN_TIMEOUT), "graph")
    with (
        ledger.locked(ledger.path(), os.path.realpath(connection.path)) as book,
        # Looked at once the ledger is ours: before that others may have changed what there is.
        _Defaults(remote=connection.path) as defaults,
    ):
        yield Desk(defaults, book)


class Desk:
    """Where defaults are claimed and given back. For the thread that opened it."""

    def __init__(self, defaults: _Defaults, book: ledger.Ledger) -> None:
        """For `at_desk()`."""
        self._defaults = defaults
        self._book = book

    def free_sink_name(self) -> str:
        """A name that no sink has."""
        taken = self._defaults.names("sink")
        others = (f"{OWN_SINK}-{number}" for number in itertools.count(2))
        return next(name for name in itertools.chain([OWN_SINK], others) if name not in taken)

    def wait_for_sink(self, name: str, deadline: _native.Deadline) -> bool:
        """Wait until there is a sink of that name; False if there is none by then."""
        return self._defaults.become(lambda state: name in state.sinks_by_priority(), deadline)

    def settle(self, kind: Kind, without: str | None = None) -> Restored | None:
        """Drop claims of what is here no more, and of one that is; say what that puts back."""
        entry = self._book.entry(kind)
        if entry is None or not self._defaults.are_known(kind):
            return None
        here = self._defaults.names(kind) - {without}
        configured = self._defaults.configured(kind)
        result = ledger.settled(entry, configured, here)
        if result.configured != configured:
            self._defaults.configure(kind, result.configured)
        self._book.write(kind, result.entry)
        if result.configured == configured:
            return None
        return Restored(kind, name_in(result.configured or ""))

    def claim(self, kind: Kind, name: str) -> Claim:
        """Make the node of that name, which is in the graph, the default.

        Raises PipeWireUnavailable where there is no session manager, or none that does within 5 s.
        """
        if self._defaults.daemon().session_manager is None:
            raise PipeWireUnavailable(
                "there is no session manager, which keeps the defaults; start it, for example "
                "with: systemctl --user start wireplumber"
            )
        for each in KINDS:
            self.settle(each)  # what a crash may have left
        entry = self._book.entry(kind) or self._unclaimed(kind)
        self._book.write(kind, ledger.claimed(entry, name))
        try:
            self._defaults.configure(kind, ledger.choice_of(name))
            self._defaults.await_default(kind, name)
        except BaseException:
            self.settle(kind, without=name)
            raise
        return Claim(self._defaults.socket, kind, name, entry.device)

    def _unclaimed(self, kind: Kind) -> ledger.Entry:
        configured = self._defaults.configured(kind)
        if kind == "sink" and (name_in(configured or "") or "").startswith(OWN_SINK):
            configured = None  # left by one of ours, and the ledger lost: nobody's choice
        return ledger.Entry(configured, self._defaults.default(kind), ())


class _Defaults(Graph):
    """A look at the graph that can change what the user has chosen as defaults."""

    @property
    def socket(self) -> str:
        """Its socket: what the ledger knows it by."""
        return os.path.realpath(self._connection.path)

    def names(self, kind: Kind) -> set[str]:
        """The names of what could be that default."""
        snapshot = self.snapshot()
        devices = snapshot.sinks if kind == "sink" else snapshot.sources
        return {device.name for device in devices}

    def configured(self, kind: Kind) -> str | None:
        """What the user has chosen, in PipeWire's words."""
        return self._state.configured(kind)

    def default(self, kind: Kind) -> str | None:
        """The name of what is the default."""
        return self._state.default(kind)

    def are_known(self, kind: Kind) -> bool:
        """Whether the session manager has said what they are: one that has just started has not."""
        return self.become(
            lambda state: state.configured(kind) is not None or state.default(kind) is not None,
            _native.Deadline(_KNOWN_WITHIN_S),
        )

    def configure(self, kind: Kind, choice: str | None) -> None:
        """Choose in the user's place."""
        self._feed.set(CONFIGURED[kind], choice)
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        if not self.become(lambda state: state.configured(kind) == choice, deadline):
            raise _not_made(f"the choice of a default {kind}")

    def await_default(self, kind: Kind, name: str) -> None:
        """Wait until the session manager has followed the choice."""
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        if not self.become(lambda state: state.default(kind) == name, deadline):
            raise _not_made(f"{name!r} the default {kind}")

    def become(self, is_so: Callable[[GraphState], bool], deadline: _native.Deadline) -> bool:
        """Wait until it is so; False if it is not by the deadline."""
        waits = 0
        while not is_so(self._state):
            if deadline.passed:
                return False
            self._wait()
            waits += 1
            if waits % _WAITS_UNTIL_ASKED == 0:  # csrc/graph.c: some changes are told to nobody
                self._begin_anew()
        return True


def _not_made(what: str) -> PipeWireUnavailable:
    return PipeWireUnavailable(
        f"the session manager did not make {what} within {_native.OPEN_TIMEOUT:g} s"
    )
