"""Making something of ours the default sink or source, and putting the user's choice back.

`ledger.py` says what is to be done and remembers it, this does it.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from .ledger import OWN_SINK, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .graph_state import GraphState

Kind = Literal["sink", "source"]
KINDS: Final[tuple[Kind, ...]] = ("sink", "source")

CLAIM: Final = "stagebox.claim"
"""The property by which the node of a claim is known: csrc/mic.c, own_sink.py."""

_GIVE_UP_WITHIN_S: Final = 1.0
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

    Raises as `Graph` does; OSError if the ledger cannot be read.
    """
    with _Defaults(remote=remote) as defaults:
        entries = ledger.entries(ledger.path(), defaults.socket)
        here = defaults.claims_here()
        return tuple(
            Holder(kind, claim.name, claim.token in here)
            for kind in KINDS
            if kind in entries
            for claim in entries[kind].claims
        )


def restore(remote: str | os.PathLike[str] | None = None) -> tuple[Restored, ...]:
    """Put back what those have left that were killed while something of theirs was the default.

    Returns what was put back, nothing where all is well.

    Raises as `Graph` does; PipeWireUnavailable also where no session manager answers, StageboxError
    and OSError if the ledger cannot be used.
    """
    with at_desk(remote) as desk:
        return tuple(put for kind in KINDS if (put := desk.settle(kind)) is not None)


def claim(remote: str, kind: Kind, held: Held) -> Claim:
    """Make a node that is in the graph the default until the claim's release.

    Raises as `Desk.claim` and `at_desk` do.
    """
    with at_desk(remote) as desk:
        return desk.claim(kind, held)


class Claim:
    """Something of ours is the default, until it is released or forgotten, or the program ends."""

    def __init__(self, daemon: str, kind: Kind, token: str, device: str | None) -> None:
        """For `Desk.claim()`."""
        self.device: Final = device
        """The `node.name` of what was the default before; None: there was nothing."""
        self._end = weakref.finalize(self, _release, daemon, kind, token, os.getpid())

    def release(self) -> None:
        """Put back what was before, unless another claims it or the user chose. Twice is fine.

        What fails is logged, and tried once more when the program ends.
        """
        end = self._end.peek()
        if end is not None:
            _, release, arguments, _ = end
            if release(*arguments):
                self._end.detach()


_postponed: Final[list[tuple[str, Kind, str, int]]] = []
"""Releases by a signal's handler or a finalizer, amid a visit to the desk by the same thread."""


def _release(daemon: str, kind: Kind, token: str, pid: int) -> bool:
    """Say whether there is no more to be done."""
    if os.getpid() != pid:  # the claim is the parent's
        return True
    if ledger.is_locked_here():
        _postponed.append((daemon, kind, token, pid))
        return True
    try:
        with at_desk(daemon) as desk:
            desk.settle(kind, without=token)
    except (StageboxError, OSError) as error:
        _log.warning("the default %s was not put back; `stagebox restore` does it: %s", kind, error)
        return False
    return True


@contextlib.contextmanager
def at_desk(remote: str | os.PathLike[str] | None) -> Iterator[Desk]:
    """Have one daemon's defaults to oneself, as far as it is us who change them.

    Raises as `Graph` does; StageboxError and OSError if the ledger cannot be used.
    """
    connection = _native.connect(remote, _native.Deadline(_native.OPEN_TIMEOUT), "graph")
    try:
        with (
            ledger.locked(ledger.path(), os.path.realpath(connection.path)) as book,
            # Looked at once the ledger is ours: before that others may change what there is.
            _Defaults(remote=connection.path) as defaults,
        ):
            yield Desk(defaults, book)
    finally:
        while _postponed and not ledger.is_locked_here():
            _release(*_postponed.pop())


class Desk:
    """Where defaults are claimed and given back. For the thread that opened it."""

    def __init__(self, defaults: _Defaults, book: ledger.Ledger) -> None:
        """For `at_desk()`."""
        self._defaults = defaults
        self._book = book

    def free_sink_name(self) -> str:
        """A name that no sink has."""
        taken = self._defaults.sink_names()
        others = (f"{OWN_SINK}-{number}" for number in itertools.count(2))
        return next(name for name in itertools.chain([OWN_SINK], others) if name not in taken)

    def wait_for_sink(self, name: str, sink: _native.Made, deadline: _native.Deadline) -> bool:
        """Wait until the sink that we make is there; False if it cannot be made, or not by then."""
        return (
            self._defaults.become(
                lambda state: bool(sink.error) or name in state.sinks_by_priority(), deadline
            )
            and not sink.error
        )

    def settle(
        self, kind: Kind, without: str | None = None, timeout: float = _native.OPEN_TIMEOUT
    ) -> Restored | None:
        """Drop claims of what is here no more, and one that is; say what that puts back.

        Raises PipeWireUnavailable where no session manager does it by then.
        """
        entry = self._book.entry(kind)
        if entry is None:
            return None
        deadline = _native.Deadline(timeout)
        configured = self._defaults.told_configured(kind, deadline)
        here = self._defaults.claims_here()
        here.pop(without or "", None)
        result = ledger.settled(entry, configured, here)
        if result.configured != configured:
            self._defaults.configure(kind, result.configured, deadline)
        if result.entry != entry:
            self._book.write(kind, result.entry)
        if result.configured == configured:
            return None
        return Restored(kind, name_in(result.configured or ""))

    def claim(self, kind: Kind, held: Held) -> Claim:
        """Make a node that is in the graph the default.

        Raises PipeWireUnavailable where there is no session manager, or none that does within 5 s.
        """
        if self._defaults.daemon().session_manager is None:
            raise PipeWireUnavailable(
                "there is no session manager, which keeps the defaults; start it, for example "
                "with: systemctl --user start wireplumber"
            )
        self._heal(held)
        entry = self._entry_now(kind, held)
        self._book.write(kind, ledger.claimed(entry, held))
        try:
            deadline = _native.Deadline(_native.OPEN_TIMEOUT)
            self._defaults.configure(kind, ledger.choice_of(held.name), deadline)
            self._defaults.await_default(kind, held.name, deadline)
        except BaseException:
            self._give_up(kind, held)
            raise
        return Claim(self._defaults.socket, kind, held.token, entry.device)

    def _heal(self, held: Held) -> None:
        """Put right what a crash may have left, before that one."""
        for kind in KINDS:
            try:
                self.settle(kind, without=held.token)
            except PipeWireUnavailable as error:
                _log.warning("the default %s cannot be put back now: %s", kind, error)

    def _entry_now(self, kind: Kind, held: Held) -> ledger.Entry:
        """What there is to be put back, and what is the default, before that claim."""
        configured, default = self._defaults.configured(kind), self._defaults.default(kind)
        here = self._defaults.claims_here()
        here.pop(held.token, None)
        left_behind = ledger.is_left_behind(name_in(configured or "") or "", here)
        entry = self._book.entry(kind) or ledger.Entry(
            before=None if left_behind else configured, device=None, claims=()
        )
        is_ours = default is None or default.startswith(OWN_SINK)
        return entry if is_ours else dataclasses.replace(entry, device=default)

    def _give_up(self, kind: Kind, held: Held) -> None:
        """Undo a claim that failed, as far as that can be done soon: the ledger keeps the rest."""
        try:
            self.settle(kind, without=held.token, timeout=_GIVE_UP_WITHIN_S)
        except (StageboxError, OSError) as error:
            _log.warning("the default %s cannot be put back now: %s", kind, error)


class _Defaults(Graph):
    """A look at the graph that can change what the user has chosen as defaults."""

    def __init__(self, *, remote: str | os.PathLike[str] | None) -> None:
        super().__init__(remote=remote)
        self._asked: dict[Kind, str | None] = {}

    @property
    def socket(self) -> str:
        """Its socket: what the ledger knows it by."""
        return os.path.realpath(self._connection.path)

    def sink_names(self) -> set[str]:
        """The names of all sinks."""
        return {sink.name for sink in self.sinks()}

    def claims_here(self) -> dict[str, str]:
        """The claims of what is in the graph: tokens and names."""
        self.snapshot()  # as of now
        return self._state.names_by(CLAIM)

    def configured(self, kind: Kind) -> str | None:
        """What the user has chosen, in PipeWire's words; or will have, as we have asked for it."""
        return self._asked.get(kind, self._state.configured(kind))

    def told_configured(self, kind: Kind, deadline: _native.Deadline) -> str | None:
        """Return the same once the session manager has told: one that has just begun has not."""
        if not self.become(
            lambda state: self.configured(kind) is not None or state.default(kind) is not None,
            deadline,
        ):
            raise PipeWireUnavailable(f"no session manager says what the default {kind} is")
        return self.configured(kind)

    def default(self, kind: Kind) -> str | None:
        """The name of what is the default."""
        return self._state.default(kind)

    def configure(self, kind: Kind, choice: str | None, deadline: _native.Deadline) -> None:
        """Choose in the user's place, who may do so in the same moment."""
        before = self._state.configured(kind)
        self._asked[kind] = choice  # what is asked for may happen, even if nobody waits for it
        self._feed.set(CONFIGURED[kind], choice)

        def is_told(state: GraphState) -> bool:
            return state.configured(kind) == choice or state.configured(kind) != before

        if not self.become(is_told, deadline):
            raise _not_made(f"the choice of a default {kind}")
        del self._asked[kind]

    def await_default(self, kind: Kind, name: str, deadline: _native.Deadline) -> None:
        """Wait until the session manager has followed the choice, unless that is another by now."""
        choice = ledger.choice_of(name)
        if not self.become(
            lambda state: state.default(kind) == name or state.configured(kind) != choice, deadline
        ):
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
