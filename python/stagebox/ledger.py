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
from typing import TYPE_CHECKING, Any, Final

from .errors import StageboxError
from .graph_state import name_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    Claims = dict[str, Any]

_PATIENCE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.01

_log = logging.getLogger(__name__)


# --- the rules ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """The claims to one default.

    Attributes:
        before: the user's choice as it is to be put back, in PipeWire's words; None for none.
        device: the `node.name` of what was the default then; None where there was none.
        claims: the `node.name`s that have claimed it, the newest last.
    """

    before: str | None
    device: str | None
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a default.

    Attributes:
        entry: the claims that are left; None where none is.
        configured: what the user's choice should be now.
    """

    entry: Entry | None
    configured: str | None


def settled(entry: Entry, configured: str | None, here: Collection[str]) -> Settled:
    """Drop the claims of what is not `here`, and say what that leaves.

    What we set goes to the newest claim that is left, and after the last back to what was before.
    What somebody else has set meanwhile, the user, stays, and is what will be put back.
    """
    left = tuple(name for name in entry.claims if name in here)
    is_ours = configured is not None and name_in(configured) in entry.claims
    if not is_ours:
        return Settled(replace(entry, before=configured, claims=left) if left else None, configured)
    if left:
        return Settled(replace(entry, claims=left), choice_of(left[-1]))
    return Settled(None, entry.before)


def claimed(entry: Entry, name: str) -> Entry:
    """Add a claim, the newest."""
    others = tuple(claim for claim in entry.claims if claim != name)
    return replace(entry, claims=(*others, name))


def choice_of(name: str) -> str:
    """Say it as the session manager does."""
    return json.dumps({"name": name})


# --- the file -------------------------------------------------------------------------------


def path() -> Path:
    """Return where it is: in the XDG state directory; a relative one does not count."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path.home() / ".local" / "state"
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
        _write(self._file, {daemon: kinds for daemon, kinds in everything.items() if kinds})


_this_thread: Final = threading.local()


@contextlib.contextmanager
def locked(file: Path, daemon: str) -> Iterator[Ledger]:
    """Have the file to oneself, among all threads and processes.

    Raises StageboxError if another keeps it for 5 s, and OSError if it cannot be written.
    """
    if getattr(_this_thread, "has_it", False):  # a finalizer, amid what it would wait for
        raise StageboxError(f"{file} is in use by this very thread")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
                    f"another process has kept {file} to itself for {_PATIENCE_S:g} s"
                ) from None
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def entries(file: Path, daemon: str) -> dict[str, Entry]:
    """Return the claims on one daemon, by their kind."""
    return {
        kind: Entry(told["before"], told["device"], tuple(told["claims"]))
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
        return found  # type: ignore[no-any-return]
    _log.warning("%s is not as it was written: what it kept is lost", file)
    return {}


def _is_ours(found: object) -> bool:
    return isinstance(found, dict) and all(
        isinstance(kinds, dict) and all(map(_is_entry, kinds.values())) for kinds in found.values()
    )


def _is_entry(told: object) -> bool:
    return (
        isinstance(told, dict)
        and told.keys() == {field.name for field in dataclasses.fields(Entry)}
        and all(isinstance(told[name], str | None) for name in ("before", "device"))
        and isinstance(told["claims"], list)
        and all(isinstance(claim, str) for claim in told["claims"])
    )


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
