"""The C core as Python objects: the only module that imports the extension.

C results become return values and exceptions here; C objects are freed when their last user,
perhaps a thread still inside a call, lets go of them. Waits are cut into slices of
`WAIT_SLICE_MS` so that the interpreter gets to run signal handlers between them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import itertools
import math
import os
import sys
import threading
import weakref
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy import empty

from . import arguments
from .errors import (
    BackendDied,
    CaptureClosed,
    CaptureDied,
    DaemonAbsent,
    GraphClosed,
    PipeWireUnavailable,
    UnsupportedPlatform,
)
from .layout import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from .graph_state import Port

    Pcm = NDArray[np.float32] | Buffer
    Remote = str | os.PathLike[str]

OPEN_TIMEOUT: Final = 5.0
"""Seconds a handshake with the daemon may take."""

WAIT_SLICE_MS: Final = 50
"""The longest a call into C waits: half of the 100 ms within which Ctrl-C must be answered."""

STATES: Final = ("opening", "idle", "streaming", "dead", "closed")
"""The names of `enum sbx_state`, by value."""

NO_NODE: Final = 0xFFFFFFFF
"""Where an id is none: SBX_NO_NODE."""

_SYSTEM_DIRECTORY: Final = "/run/pipewire"
"""Where libpipewire looks for a system-wide daemon."""

_CLOSED: Final = "the capture is closed"

_WAIT_SLICE_S: Final = WAIT_SLICE_MS / 1000

_REASON_BYTES: Final = 256

_FLOAT32: Final = np.dtype(np.float32)
"""What numpy would have to look up for every array if it were told `np.float32`."""

_SHORT_BLOCKS: Final = 32
"""In a row, after which a capture believes that blocks have become shorter. A resampler's differ by
a frame, and a reader in a busy interpreter takes blocks of any length."""

_MORE_THAN_WAITED: Final = 4
"""Room for what waits, and for what comes until a busy interpreter lets a call begin again."""

_MOST_FRAMES: Final = (1 << 32) - 1
"""That C's uint32_t can ask for."""

_FLOAT32_FORMATS: Final = ("f", "@f", "=f", "<f" if sys.byteorder == "little" else ">f")


class _Extension(NamedTuple):
    ffi: Any
    lib: Any
    push: Callable[[int, int, int], int]
    """`lib.sbx_mic_push`, of addresses, with the interpreter lock held: it takes a microsecond for
    10 ms of sound, and a thread that lets go of the lock may wait for it 5 ms for each other one
    that is busy."""
    discard: Callable[[int], None]
    """`lib.sbx_mic_discard`, in the same way: then no push waits for another thread."""


@functools.cache
def _extension() -> _Extension:
    """Load the extension, and with it libpipewire, at first use."""
    if sys.platform != "linux":
        raise UnsupportedPlatform(f"stagebox needs Linux and PipeWire; this is {sys.platform}")
    if _interpreter() != 0:
        raise UnsupportedPlatform(
            "stagebox works in the main interpreter only, not in a sub-interpreter, where numpy "
            "and cffi do not; use a thread or a process"
        )
    try:
        from . import _stagebox  # noqa: PLC0415 - it links to libpipewire, which may be missing
    except ImportError as error:
        raise PipeWireUnavailable(
            f"libpipewire could not be loaded ({error}); install it: "
            "libpipewire-0.3-0 on Debian and Ubuntu, pipewire-libs on Fedora, libpipewire on Arch"
        ) from error
    ffi, lib = _stagebox.ffi, _stagebox.lib

    def holding(name: str, *types: Any) -> Any:
        return ctypes.PYFUNCTYPE(*types)(_address(ffi, ffi.addressof(lib, name)))

    return _Extension(
        ffi,
        lib,
        holding("sbx_mic_push", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32),
        holding("sbx_mic_discard", None, ctypes.c_void_p),
    )


def libpipewire_version() -> str:
    """Return the version of the libpipewire that is loaded."""
    extension = _extension()
    return str(extension.ffi.string(extension.lib.sbx_libpipewire_version()).decode())


def _address(ffi: Any, pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _interpreter() -> int:
    """Which of the process's interpreters this is; the main one is 0."""
    python = ctypes.pythonapi
    this = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyInterpreterState_Get", python))
    number = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(
        ("PyInterpreterState_GetID", python)
    )
    return int(number(this()))


def _reason(read: Callable[[Any, Any, int], None], handle: Any) -> str:
    ffi = _extension().ffi
    text = ffi.new("char[]", _REASON_BYTES)
    read(handle, text, _REASON_BYTES)
    return str(ffi.string(text).decode("utf-8", "replace")) or "no reason was given"


def _owned(free: Callable[[Any], None], make: Callable[..., Any], *args: Any) -> Any:
    """Return what `make(*args)` returns, to be given to `free` when it is forgotten.

    Like `ffi.gc(make(*args), free)`, but in C alone: between two steps of Python a signal's
    handler may raise, and what was just made, a node with its threads, would be nobody's.
    """
    made = itertools.starmap(make, [args])
    return next(map(_extension().ffi.gc, made, [free]))


# --- waiting ------------------------------------------------------------------------------


class Deadline:
    """A moment to be done by, handed out in slices short enough for Ctrl-C."""

    __slots__ = ("_at",)

    def __init__(self, timeout: float) -> None:
        self._at = monotonic() + arguments.seconds("timeout", timeout)

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return monotonic() >= self._at

    def slice_ms(self) -> int:
        """Milliseconds the next call into C may wait."""
        return _slice_ms(self._at - monotonic())


def _slice_ms(left: float) -> int:
    """Milliseconds a call into C may wait where so many seconds are left."""
    left_ms = left * 1000
    return WAIT_SLICE_MS if left_ms >= WAIT_SLICE_MS else max(0, math.ceil(left_ms))


def _wait_for(step: Callable[[int], int], deadline: Deadline) -> int:
    """Repeat `step(slice_ms)` until it answers other than 0, or until the deadline."""
    while True:
        result = step(deadline.slice_ms())
        if result != 0 or deadline.passed:
            return result


# --- connections ----------------------------------------------------------------------------


def socket_paths(remote: Remote | None) -> list[str]:
    """Where the daemon's socket may be, best first, by libpipewire's own rules.

    `remote` (else PIPEWIRE_REMOTE, else "pipewire-0") is an absolute path, or a name in
    PIPEWIRE_RUNTIME_DIR, else XDG_RUNTIME_DIR, else in the system's /run/pipewire.
    """
    if remote is None:
        name = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    else:
        name = arguments.path("remote", remote)
    if name.startswith("/"):
        return [name]
    places = (_runtime_directory(), _SYSTEM_DIRECTORY)
    return [f"{place.rstrip('/')}/{name}" for place in places if place]


def _runtime_directory() -> str | None:
    return os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")


class Connection:
    """One connection to a daemon, shared by the streams that hold it. Any thread."""

    def __init__(self, path: str) -> None:
        extension = _extension()
        self._lib = extension.lib
        error = extension.ffi.new("int *")
        self.path = path
        self.handle = _owned(
            self._lib.sbx_connection_release,
            self._lib.sbx_connection_open,
            os.fsencode(path),
            error,
        )
        if not self.handle:
            raise OSError(-error[0], os.strerror(-error[0]), path)

    @property
    def alive(self) -> bool:
        """False from the moment the daemon is known to be lost."""
        return bool(self._lib.sbx_connection_alive(self.handle))

    def sync(self, deadline: Deadline) -> None:
        """Wait until the daemon has answered: it lives, and what it announced is known."""
        sequence = self._lib.sbx_connection_sync(self.handle)
        result = _wait_for(
            lambda ms: self._lib.sbx_connection_wait(self.handle, sequence, ms), deadline
        )
        if result == 0:
            raise PipeWireUnavailable(
                f"the PipeWire daemon at {self.path} did not answer within {OPEN_TIMEOUT:g} s; "
                "is it stopped or overloaded?"
            )
        if result < 0:
            raise DaemonAbsent(
                f"the PipeWire daemon at {self.path} went away during the handshake: "
                f"{self.reason(errno.EPIPE)}"
            )

    def reason(self, error: int) -> str:
        """Why something on this connection failed with `error`: its end tells more."""
        if self.alive:
            return os.strerror(error)
        return _reason(self._lib.sbx_connection_error, self.handle)

    def sinks(self) -> list[tuple[int, str]]:
        """Return the object id and `node.name` of every sink the daemon has announced."""
        ffi, lib, *_ = _extension()
        size = 0
        while True:
            text = ffi.new("char[]", size + 1)
            used = int(lib.sbx_connection_sinks(self.handle, text, size))
            if used <= size:
                break
            size = used
        lines = bytes(ffi.buffer(text, used)).decode("utf-8", "replace").split("\0")[:-1]
        return [(int(number), name) for number, _, name in (line.partition(" ") for line in lines)]


Purpose = Literal["streams", "graph"]
"""What a connection is for. The daemon stops listening to a client that binds metadata until the
session manager answers it, and to the session manager while it waits for a client's new node: one
client that does both may have them wait for each other for ever. (module-metadata's global_bind and
impl-node's enum_params, 0.3.65 to 1.6.)"""

_shared: weakref.WeakValueDictionary[tuple[Purpose, str], Connection]
_shared = weakref.WeakValueDictionary()
_shared_lock = threading.RLock()  # reentrant: a signal's handler may open amid an open


def _enter_child() -> None:
    """Start anew after a fork: what is shared belongs to the parent, also a lock held there."""
    global _shared_lock  # noqa: PLW0603 - a lock cannot be reset
    _shared_lock = threading.RLock()
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def _connection(paths: list[str], purpose: Purpose) -> tuple[Connection, bool]:
    """Return a connection to the first daemon that listens, and whether it was there before."""
    with _shared_lock:
        for path in paths:
            connection = _shared.get((purpose, path))
            if connection is not None and connection.alive:
                return connection, True
        failures: list[OSError] = []
        for path in paths:
            try:
                connection = _shared[purpose, path] = Connection(path)
            except OSError as error:
                # Its traceback holds this frame, and so would keep the connection that was there.
                failures.append(error.with_traceback(None))
            else:
                return connection, False
    raise _unavailable(paths, failures)


def _unavailable(paths: list[str], failures: list[OSError]) -> PipeWireUnavailable:
    reasons = "; ".join(f"{error.filename}: {error.strerror}" for error in failures)
    if any(error.errno not in {errno.ENOENT, errno.ECONNREFUSED} for error in failures):
        return PipeWireUnavailable(f"the PipeWire daemon cannot be reached ({reasons})")
    hint = "start it, for example with: systemctl --user start pipewire wireplumber"
    if paths[0].startswith(f"{_SYSTEM_DIRECTORY}/") and not _runtime_directory():
        hint = (
            "XDG_RUNTIME_DIR is not set: set it to the desktop session's, for example "
            f"/run/user/{os.getuid()}"
        )
    return DaemonAbsent(f"no PipeWire daemon is running ({reasons}); {hint}")


def connect(remote: Remote | None, deadline: Deadline, purpose: Purpose = "streams") -> Connection:
    """Return the process's connection to that daemon, its handshake done."""
    paths = socket_paths(remote)
    connection, reused = _connection(paths, purpose)
    try:
        connection.sync(deadline)
    except PipeWireUnavailable:
        _forget(connection)
        if connection.alive or not reused:
            raise
        # The daemon has just been restarted, and the old connection had not noticed yet.
        connection, _ = _connection(paths, purpose)
        connection.sync(deadline)
    return connection


def _forget(connection: Connection) -> None:
    """Give a connection that failed to nobody else; the streams on it keep it."""
    with _shared_lock:
        for key in [key for key, shared in _shared.items() if shared is connection]:
            del _shared[key]


# --- a look at the graph --------------------------------------------------------------------


class Feed:
    """The records of what is in the graph and what becomes of it. Any thread."""

    def __init__(self, connection: Connection) -> None:
        ffi, lib, *_ = _extension()
        error = ffi.new("int *")
        self._ffi, self._lib = ffi, lib
        # shared for as long as what is open holds it
        self._connection: Connection | None = connection
        self._handle: Any = _owned(lib.sbx_graph_free, lib.sbx_graph_open, connection.handle, error)
        if not self._handle:
            raise _open_failed("graph", connection, connection.reason(-error[0]))

    @property
    def _held(self) -> tuple[Any, Connection]:
        handle, connection = self._handle, self._connection
        if handle is None or connection is None:
            raise GraphClosed("the graph was closed")
        return handle, connection

    def sync(self, deadline: Deadline) -> None:
        """Wait until all that has happened so far is among the records."""
        self._held[1].sync(deadline)

    def wait(self, deadline: Deadline) -> None:
        """Wait until there is something to take, or a slice of the time is over."""
        self._lib.sbx_graph_wait(self._held[0], deadline.slice_ms())

    def take(self) -> bytes:
        """Return the records that wait, as they are; OverflowError if too many did."""
        handle, connection = self._held
        records, size = self._ffi.NULL, 0  # mostly there is nothing
        while True:
            waiting = self._lib.sbx_graph_take(handle, records, size)
            if waiting == self._lib.SBX_DEAD:
                raise DaemonAbsent(f"the PipeWire daemon is gone: {connection.reason(errno.EPIPE)}")
            if waiting == self._lib.SBX_CLOSED:
                raise GraphClosed("the graph was closed")
            if waiting < 0:
                raise OverflowError("nobody took the records for too long: begin anew")
            if waiting <= size:
                return bytes(self._ffi.buffer(records, waiting))
            records, size = self._ffi.new("uint8_t[]", waiting), waiting

    def set(self, key: str, value: str | None) -> None:
        """Ask the session manager to set a property of the whole graph, None to remove it."""
        handle, connection = self._held
        text = self._ffi.NULL if value is None else value.encode()
        result = self._lib.sbx_graph_set(handle, key.encode(), text)
        if result < 0:
            reason = connection.reason(-result)
            raise PipeWireUnavailable(f"the session manager cannot be asked for {key}: {reason}")

    def duplicate_fd(self) -> int:
        """Return a descriptor that is readable while records wait: the caller's, to be closed."""
        handle, _ = self._held  # held, so that no other thread's close ends it meanwhile
        return os.dup(self._lib.sbx_graph_fd(handle))

    def close(self) -> None:
        """Look no more and wake whoever waits. Twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lib.sbx_graph_close(handle)
            self._connection = None


class Made:
    """Something of ours that the daemon makes, a link or a node. Any thread."""

    def __init__(self, connection: Connection, kind: int, properties: Mapping[str, str]) -> None:
        ffi, self._lib, *_ = _extension()
        error = ffi.new("int *")
        items = [text.encode() for item in properties.items() for text in item]
        self._handle: Any = _owned(
            self._lib.sbx_object_free,
            self._lib.sbx_object_open,
            connection.handle,
            kind,
            b"".join(text + b"\0" for text in items),
            error,
        )
        self._error = error[0]

    @classmethod
    def link(
        cls, connection: Connection, output: Port, into: Port, *, passive: bool = False
    ) -> Made:
        """Link two ports. What a passive link leads from goes idle as if nobody listened.

        A daemon from 0.3.70 on has only links passive that lead from a sink or a source to a
        passive node, whatever is asked for.
        """
        ends = {"output": output, "input": into}
        properties = {f"link.{end}.node": str(port.node) for end, port in ends.items()}
        properties |= {f"link.{end}.port": str(port.id) for end, port in ends.items()}
        properties |= {"link.passive": "true"} if passive else {}
        return cls(connection, _extension().lib.SBX_LINK, properties)

    @classmethod
    def node(cls, connection: Connection, properties: Mapping[str, str]) -> Made:
        """Make a node with the daemon's adapter."""
        return cls(connection, _extension().lib.SBX_NODE, properties)

    @property
    def error(self) -> str:
        """Why there is none, or none any more; "" while all is well."""
        handle = self._handle
        code = self._error if not handle else self._lib.sbx_object_error(handle)
        return os.strerror(-code) if code else ""

    def close(self) -> None:
        """Undo it. Twice is fine."""
        self._handle = None


# --- what goes across -----------------------------------------------------------------------


def frames_of(pcm: Pcm, channels: int) -> tuple[Any, int]:
    """Return a C pointer to `pcm`, which it keeps alive, and its frames.

    `pcm` is any C-contiguous buffer of native float32, `(frames, channels)` or flat and
    interleaved; TypeError or ValueError otherwise.
    """
    buffer: Any = pcm  # whether an array is declared to be one depends on numpy's version
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(
            f"PCM must be a buffer of float32, such as a numpy array, not {type(pcm).__name__}"
        ) from None
    if view.format not in _FLOAT32_FORMATS:
        raise TypeError(f"PCM must be float32, not buffer format {view.format!r}")
    if not view.c_contiguous:
        raise ValueError("PCM must be C-contiguous; numpy.ascontiguousarray() makes it so")
    shape = view.shape or ()
    if (len(shape) == 2 and shape[1] != channels) or len(shape) not in {1, 2}:
        raise ValueError(f"PCM must have shape (frames, {channels}) or be flat, not {shape}")
    if len(shape) == 1 and shape[0] % channels:
        raise ValueError(
            f"flat PCM must hold whole frames of {channels} samples, not {shape[0]} samples"
        )
    pointer = _extension().ffi.from_buffer("float[]", view)
    return pointer, view.nbytes // (4 * channels)


# --- a capture ------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What `Capture.measurer` measures."""

    frames: int
    newest_ns: int
    """When the last quantum began."""
    absent: int
    """Frames lost and missed until now."""
    peaks: list[float]
    """Of each channel."""
    squares: list[float]
    """Their sum, of each channel."""


class Capture:
    """A capture's C object. Any thread; one reader at a time gets an unbroken sequence.

    With a quantum of 0 frames it only looks on, see stagebox.h.
    """

    def __init__(
        self,
        connection: Connection,
        channels: int,
        target: str | None,
        route: str | None,
        quantum_frames: int,
        deadline: Deadline,
    ) -> None:
        ffi, lib, *_ = _extension()
        error = ffi.new("int *")
        route_name = ffi.NULL if route is None else arguments.text("route", route)
        name = ffi.NULL if target is None else arguments.text("target", target)
        self._ffi, self._lib = ffi, lib
        self._new_block = functools.partial(ffi.new, ffi.typeof("struct sbx_block *"))
        self._floats = functools.partial(ffi.from_buffer, ffi.typeof("float[]"))
        self._next = lib.sbx_capture_next
        self._channels = channels
        self._blocks: list[Any] = []  # that no reader uses now
        # Frames of the next block, as far as can be known: the most of late. Where it is too few
        # another call is needed, and a busy interpreter lets no call return for 10 ms. Where it is
        # too many the array has to be cut, which takes a tenth of a read.
        self._room = quantum_frames
        self._short_blocks = 0  # in a row
        self._longest_short = 0
        # shared for as long as a stream that is open holds it
        self._connection: Connection | None = connection
        self._handle: Any = _owned(
            lib.sbx_capture_free,
            lib.sbx_capture_open,
            connection.handle,
            channels,
            name,
            route_name,
            quantum_frames,
            error,
        )
        if not self._handle:
            raise _open_failed("capture", connection, connection.reason(-error[0]))
        _wait_open(
            "capture", self, connection, lib.sbx_capture_wait_open, lib.sbx_capture_error, deadline
        )

    @property
    def handle(self) -> Any:
        """The C object, or CaptureClosed. Hold it for as long as C uses it."""
        handle = self._handle
        if handle is None:
            raise CaptureClosed(_CLOSED)
        return handle

    def next_block(self, timeout: float) -> tuple[NDArray[np.float32], int, int]:
        """Wait for frames and take all there are, up to the next loss.

        The PCM, none at the time-out; the first frame's time; frames lost before it.

        A reader that is woken for every quantum finds the caches cold. What counts is how much
        different code this runs, here, in numpy and in cffi; how often counts little.
        """
        seconds = arguments.seconds("timeout", timeout)
        until = monotonic() + seconds
        slice_ms = WAIT_SLICE_MS if seconds >= _WAIT_SLICE_S else _slice_ms(seconds)
        handle, room = self._handle, self._room
        if handle is None:
            raise CaptureClosed(_CLOSED)
        # Where the frames go is made before they come: afterwards they would wait for it.
        pcm = empty((room, self._channels), _FLOAT32)
        try:
            block = self._blocks.pop()  # at once, whatever other threads and signals' handlers do
        except IndexError:
            block = self._new_block()
        count: int = self._next(handle, self._floats(pcm), room, slice_ms, block)
        if not 0 < count <= room:
            pcm, count = self._try_again(handle, pcm, count, block, until)
        if count == len(pcm):
            self._short_blocks = 0
        elif count:
            pcm = self._cut(pcm, count)
        else:
            return pcm[:0].copy(), monotonic_ns(), 0
        time_ns, lost_frames = block.time_ns, block.lost_frames
        self._blocks.append(block)
        return pcm, time_ns, lost_frames

    def _try_again(
        self, handle: Any, pcm: NDArray[np.float32], count: int, block: Any, until: float
    ) -> tuple[NDArray[np.float32], int]:
        """Go on after a call that got no frames, `count` says why, until one does.

        The array they are in, and how many: 0 at the deadline.
        """
        while not 0 < count <= len(pcm):
            if count < 0:
                raise self._end(handle, count)
            if count > len(pcm):
                room = self._room = _MORE_THAN_WAITED * count
                pcm = empty((room, self._channels), _FLOAT32)
            elif monotonic() >= until:
                break
            slice_ms = _slice_ms(until - monotonic())
            count = self._next(handle, self._floats(pcm), len(pcm), slice_ms, block)
        return pcm, count

    def _cut(self, pcm: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Return the frames that came where there was room for more, and see to the next room."""
        self._short_blocks += 1
        longest = self._longest_short = max(self._longest_short, count)
        if self._short_blocks >= _SHORT_BLOCKS:
            self._room = longest
            self._short_blocks = self._longest_short = 0
        # What is much too large is not kept for the sake of what is in it.
        return pcm[:count].copy() if count * 2 < len(pcm) else pcm[:count]

    def measurer(self) -> Callable[[], Measured]:
        """Return what measures all that waits and forgets it, see stagebox.h.

        For one thread, the only reader; it raises as `next_block` does. What it needs is made once:
        twenty times a second, on caches gone cold, all else that is touched is what it costs.
        """
        ffi, lib, channels = self._ffi, self._lib, self._channels
        peaks, squares = ffi.new("float[]", channels), ffi.new("float[]", channels)
        measured = ffi.new("struct sbx_measured *")
        unpack = ffi.unpack

        def measure() -> Measured:
            handle = self.handle
            result = lib.sbx_capture_measure(handle, peaks, squares, measured)
            if result < 0:
                raise self._end(handle, result)
            return Measured(
                measured.frames,
                measured.newest_ns,
                measured.absent,
                unpack(peaks, channels),
                unpack(squares, channels),
            )

        return measure

    def fill(self, pcm: NDArray[np.float32], deadline: Deadline) -> int:
        """Wait for as many frames as `pcm` has, and copy them; across losses.

        How many there were: fewer at the deadline, or if it died meanwhile.
        """
        handle = self.handle
        pointer = self._ffi.from_buffer("float[]", pcm, require_writable=True)
        frames, filled = len(pcm), 0
        while True:
            rest = min(frames - filled, _MOST_FRAMES)
            count: int = self._lib.sbx_capture_fill(
                handle, pointer + filled * self._channels, rest, deadline.slice_ms()
            )
            if count < 0:
                if filled and count == self._lib.SBX_DEAD:
                    return filled  # the caller's; the next call says that it died
                raise self._end(handle, count)
            filled += count
            if filled == frames or deadline.passed:
                return filled

    def _end(self, handle: Any, result: int) -> CaptureClosed | CaptureDied:
        if result == self._lib.SBX_CLOSED:
            return CaptureClosed("the capture was closed while it was read")
        reason = _reason(self._lib.sbx_capture_error, handle)
        return CaptureDied(f"the capture's backend is gone: {reason}")

    def drain(self) -> None:
        """Forget what waits."""
        self._lib.sbx_capture_drain(self.handle)

    def fileno(self) -> int:
        """Return the eventfd that is readable while frames wait."""
        return int(self._lib.sbx_capture_fd(self.handle))

    def duplicate_fd(self) -> int:
        """Return a descriptor like that, but the caller's own, to be closed by it."""
        handle = self.handle  # held, so that no other thread's close ends it meanwhile
        return os.dup(self._lib.sbx_capture_fd(handle))

    def stats(self) -> Any:
        """Return the C struct of counters."""
        stats = _extension().ffi.new("struct sbx_capture_stats *")
        self._lib.sbx_capture_get_stats(self.handle, stats)
        return stats

    def close(self) -> None:
        """Leave the graph and wake whoever waits. Twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lib.sbx_capture_close(handle)
            self._connection = None


# --- a microphone ---------------------------------------------------------------------------


class Mic:
    """A microphone's C object. Any thread; several pushers take turns."""

    def __init__(
        self,
        connection: Connection,
        channels: int,
        *,
        name: str,
        description: str,
        claim: str | None,
        priority: int,
        quantum_frames: int,
        deadline: Deadline,
    ) -> None:
        ffi, lib, self._push, self._discard = _extension()
        error = ffi.new("int *")
        self._ffi, self._lib = ffi, lib
        # shared for as long as a stream that is open holds it
        self._connection: Connection | None = connection
        self._handle: Any = _owned(
            lib.sbx_mic_free,
            lib.sbx_mic_open,
            connection.handle,
            channels,
            arguments.text("name", name),
            arguments.text("description", description),
            ffi.NULL if claim is None else claim.encode(),
            priority,
            quantum_frames,
            error,
        )
        if not self._handle:
            raise _open_failed("microphone", connection, connection.reason(-error[0]))
        self._at = _address(ffi, self._handle)
        _wait_open(
            "microphone", self, connection, lib.sbx_mic_wait_open, lib.sbx_mic_error, deadline
        )

    @property
    def handle(self) -> Any:
        """The C object, or BackendDied once closed. Hold it for as long as C uses it."""
        handle = self._handle
        if handle is None:
            raise BackendDied("the microphone is closed")
        return handle

    def push(self, pcm: Pcm, channels: int) -> bool:
        """Hand frames over; False when the backend is dead."""
        pointer, frames = frames_of(pcm, channels)
        if frames > SAMPLE_RATE:
            raise ValueError(f"a push takes at most {SAMPLE_RATE} frames (1 s), not {frames}")
        handle = self.handle  # held, so that no other thread's close ends it meanwhile
        taken = self._push(self._at, _address(self._ffi, pointer), frames)
        del handle
        return taken != 0

    @property
    def alive(self) -> bool:
        """Neither dead nor closed."""
        handle = self._handle
        return handle is not None and bool(self._lib.sbx_mic_alive(handle))

    def discard(self) -> None:
        """Drop what has been pushed and not played."""
        handle = self.handle
        self._discard(self._at)
        del handle

    def set_target(self, frames: int) -> None:
        """Fix the ring's target; 0 has it chosen again."""
        self._lib.sbx_mic_set_target(self.handle, frames)

    def stats(self) -> Any:
        """Return the C struct of counters."""
        stats = _extension().ffi.new("struct sbx_mic_stats *")
        self._lib.sbx_mic_get_stats(self.handle, stats)
        return stats

    def reason(self) -> str:
        """Why the backend died."""
        return _reason(self._lib.sbx_mic_error, self.handle)

    def close(self) -> None:
        """Leave the graph. Twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lib.sbx_mic_close(handle)
            self._connection = None


def _open_failed(what: str, connection: Connection, reason: str) -> PipeWireUnavailable:
    error = PipeWireUnavailable if connection.alive else DaemonAbsent
    return error(f"the {what} could not be opened: {reason}")


def _wait_open(
    what: str,
    stream: Capture | Mic,
    connection: Connection,
    wait: Callable[[Any, int], int],
    error: Callable[[Any, Any, int], None],
    deadline: Deadline,
) -> None:
    """Wait until the node is in the graph; close the stream again when it does not get there."""
    handle = stream.handle
    with closed_on_failure(stream):
        result = _wait_for(lambda ms: wait(handle, ms), deadline)
        if result == 0:
            reason = f"the daemon did not make the node in {OPEN_TIMEOUT:g} s"
            raise _open_failed(what, connection, reason)
        if result < 0:
            raise _open_failed(what, connection, _reason(error, handle))


@contextlib.contextmanager
def closed_on_failure(stream: Capture | Mic) -> Iterator[None]:
    """Close a stream that is not to be had after all."""
    try:
        yield
    except BaseException:  # Ctrl-C too must leave no node behind
        stream.close()
        raise
