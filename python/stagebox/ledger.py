"""Who has claimed a default, and what it was before: the rules, and the file it is written in.

While something of ours is the default sink or source, the user's own choice is kept here, to be put
back by us, by another process, or after a crash by whoever comes next. A claim holds for as long as
the node that it names is in the graph, which the daemon sees to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from .errors import StageboxError
from .graph_state import name_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Claims = dict[str, Any]

_PATIENCE_S: Final = 15.0
_LOOK_AGAIN_S: Final = 0.01

_log = logging.getLogger(__name__)


# --- the rules ------------------------------------------------------------------------------


OWN_SINK: Final = "stagebox-own-sink"
"""The `node.name` of a sink of our own; that of a second begins with it. It is the same each time,
as session managers remember for ever what was chosen."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claim.

    Attributes:
        token: what tells its node, which has it as a property, from all others.
        name: that node's `node.name`.
    """

    token: str
    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """The claims to one default.

    Attributes:
        before: the user's choice as it is to be put back, in PipeWire's words; None for none.
        device: the `node.name` of what was the default then; None where there was none.
        claims: the newest last. With none this is kept for a session manager that ends before it
            has written down that the claim is over, and begins with that again.
    """

    before: str | None
    device: str | None
    claims: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a default.

    Attributes:
        entry: what is to be kept of it; None for nothing.
        configured: what the user's choice should be now.
    """

    entry: Entry | None
    configured: str | None


def settled(entry: Entry, configured: str | None, here: Mapping[str, str]) -> Settled:
    """Drop the claims of what is not here, and say what that leaves.

    `here` are the claims of the nodes in the graph: tokens, and names. What we set goes to the
    newest claim that is left, and after the last back to what was before. What somebody else has
    set meanwhile, the user, stays, and ends all claims.
    """
    name = name_in(configured or "") or ""
    left = tuple(claim for claim in entry.claims if claim.token in here)
    if not (name in {claim.name for claim in entry.claims} or is_left_behind(name, here)):
        return Settled(None, configured)
    if left:
        return Settled(replace(entry, claims=left), choice_of(left[-1].name))
    kept = replace(entry, claims=()) if name.startswith(OWN_SINK) else None
    return Settled(kept, entry.before)


def is_left_behind(name: str, here: Mapping[str, str]) -> bool:
    """Whether it is the name of a sink of our own that is not there: nobody's choice."""
    return name.startswith(OWN_SINK) and name not in here.values()


def claimed(entry: Entry, claim: Held) -> Entry:
    """Add a claim, the newest."""
    return replace(entry, claims=(*entry.claims, claim))


def choice_of(name: str) -> str:
    """Say it as the session manager does."""
    return json.dumps({"name": name})


# --- the file -------------------------------------------------------------------------------


def path() -> Path:
    """Return where it is: in the XDG state directory; a relative one does not count."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:  # neither HOME nor an entry in passwd
            raise StageboxError(f"no directory to keep the defaults in: {error}") from error
    return state / "stagebox" / "defaults.json"


class Ledger:
    """The claims on one daemon, while this thread has the file to itself."""

    def __init__(self, file: Path, daemon: str) -> None:
        """For `locked()`."""
        self._file = file
        self._daemon = daemon

    def entry(self, kind: str) -> Entry | None:
        """Return the claims to the default "sink" or "source"."""
        return entries(self._file, self._daemon).get(kind)

    def write(self, kind: str, entry: Entry | None) -> None:
        """Replace them; a crash at any moment leaves the one or the other."""
        everything = _read(self._file)
        here = everything.setdefault(self._daemon, {})
        here.pop(kind, None)
        if entry is not None:
            here[kind] = dataclasses.asdict(entry)
        _write(self._file, {at: kinds for at, kinds in everything.items() if _matters(at, kinds)})


def _matters(daemon: str, kinds: dict[str, Claims]) -> bool:
    """Whether anything is to be kept; of a daemon that is gone for good only what is claimed."""
    return any(told["claims"] for told in kinds.values()) or (
        bool(kinds) and os.path.exists(daemon)  # noqa: PTH110 - not a file
    )


_this_thread: Final = threading.local()


def is_locked_here() -> bool:
    """Whether this very thread has the file, amid whatever it does now."""
    return getattr(_this_thread, "has_it", False)


@contextlib.contextmanager
def locked(file: Path, daemon: str) -> Iterator[Ledger]:
    """Have the file to oneself, among all threads and processes.

    Raises StageboxError if others keep it for 15 s, and OSError if it cannot be written.
    """
    if is_locked_here():
        raise StageboxError(f"{file} is in use by this very thread, which was interrupted")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(file.with_suffix(".lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock, file)
        _this_thread.has_it = True
        try:
            yield Ledger(file, daemon)
        finally:
            _this_thread.has_it = False
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile has it open too
    finally:
        os.close(lock)


def _lock(lock: int, file: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StageboxError(
                    f"others have kept {file} to themselves for {_PATIENCE_S:g} s"
                ) from None
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def entries(file: Path, daemon: str) -> dict[str, Entry]:
    """Return the claims on one daemon, by their kind."""
    return {
        kind: Entry(
            told["before"], told["device"], tuple(Held(**claim) for claim in told["claims"])
        )
        for kind, told in _read(file).get(daemon, {}).items()
    }


def _read(file: Path) -> dict[str, dict[str, Claims]]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if _is_ours(found):
        return found
    _log.warning("%s is not as it was written: what it kept is lost", file)
    return {}


def _is_ours(found: object) -> TypeGuard[dict[str, dict[str, Claims]]]:
    return isinstance(found, dict) and all(
        isinstance(kinds, dict) and all(map(_is_entry, kinds.values())) for kinds in found.values()
    )


def _is_entry(told: Any) -> bool:
    return (
        _has_fields_of(Entry, told)
        and all(isinstance(told[name], str | None) for name in ("before", "device"))
        and isinstance(told["claims"], list)
        and all(map(_is_claim, told["claims"]))
    )


def _is_claim(told: Any) -> bool:
    return _has_fields_of(Held, told) and all(isinstance(text, str) for text in told.values())


def _has_fields_of(kind: type[Entry | Held], told: object) -> bool:
    names = {field.name for field in dataclasses.fields(kind)}
    return isinstance(told, dict) and told.keys() == names


def _write(file: Path, everything: dict[str, dict[str, Claims]]) -> None:
    if not everything:
        file.unlink(missing_ok=True)
        return
    replacement = file.with_suffix(".new")
    descriptor = os.open(replacement, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as text:
        json.dump(everything, text, indent=2)
        text.flush()
        os.fsync(descriptor)
    replacement.replace(file)
