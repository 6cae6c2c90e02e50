"""Desktop audio out: what a PipeWire desktop plays, as float32 PCM at 48 kHz."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

import numpy as np

from . import _native, arguments
from .errors import CaptureClosed
from .layout import CHANNELS, POSITIONS
from .readable import readable
from .unshared import Unshared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from .graph_state import Sink
    from .own_sink import OwnSink
    from .routing import Router


_OVERRIDDEN_BY: Final = {
    "target": "PIPEWIRE_NODE",
    "sink": "PIPEWIRE_NODE",
    "apps": "PIPEWIRE_AUTOCONNECT",
    "except_apps": "PIPEWIRE_AUTOCONNECT",
}
"""What in the environment libpipewire puts above a choice (pw_stream_connect)."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A block of captured PCM. `len(chunk)` is its frames; an empty chunk is falsy.

    Attributes:
        pcm: float32, C-contiguous, shape `(frames, channels)`; the caller's own.
        time_ns: CLOCK_MONOTONIC nanoseconds of the first frame, as the graph saw it (the
            driver's `spa_io_clock.nsec` for its cycle). For an empty chunk, when the wait ended.
        lost_frames: frames dropped just before the first one because the reader was late.
    """

    pcm: NDArray[np.float32]
    time_ns: int
    lost_frames: int

    def __init__(self, pcm: NDArray[np.float32], time_ns: int, lost_frames: int) -> None:
        # As the generated one, but without object.__setattr__ looking each of them up.
        _set_pcm(self, pcm)
        _set_time_ns(self, time_ns)
        _set_lost_frames(self, lost_frames)

    def __len__(self) -> int:
        """Frames."""
        return len(self.pcm)


_set_pcm, _set_time_ns, _set_lost_frames = (
    vars(Chunk)[name].__set__ for name in ("pcm", "time_ns", "lost_frames")
)


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """A capture's counters since it was opened.

    Attributes:
        frames: captured and kept for the reader.
        lost: frames dropped because the reader was late and the ring full.
        missed: frames of time, since the first, in which the graph delivered nothing: it paused
            (no sink, the target unplugged, no driver), linked the capture to another sink, or
            skipped cycles because the machine was late. Where it happened `time_ns` jumps; nothing
            of stagebox's was full.
        quanta: cycles in which the graph delivered.
        quantum: frames it delivered the last time.
        waiting: frames that wait for the reader now.
        rate_hz: the negotiated rate of this stream, 0 before there is one.
        graph_rate_hz: the rate of the graph's driver, 0 before the first quantum.
        state: "opening", "idle" (nothing plays or no sink), "streaming", "dead", "closed".
        driver_id: the node whose clock drives the graph, mostly the sink: its number there, which
            is `stagebox.graph`'s `id`; None before there is one.
    """

    frames: int
    lost: int
    missed: int
    quanta: int
    quantum: int
    waiting: int
    rate_hz: int
    graph_rate_hz: int
    state: str
    driver_id: int | None = None


class AudioCapturer(Protocol):
    """Something that captures desktop audio.

    Every method may be called from any thread. Two threads that read at the same time each get
    frames the other does not; `close` may come from any thread at any time.
    """

    @property
    def channels(self) -> int:
        """Channels of every chunk, in the order of `stagebox.layout.POSITIONS`."""
        ...

    @property
    def stats(self) -> CaptureStats:
        """A snapshot of the counters."""
        ...

    def next_chunk(self, timeout: float = 5.0) -> Chunk:
        """Wait for audio, then return all there is in one copy.

        A chunk ends early only where frames were lost or the graph paused, so that its `time_ns`
        is true for all of it. An empty chunk after `timeout` seconds means quiet, not broken.
        Ctrl-C is answered within 100 ms. Several threads share: each frame goes to one of them,
        and to each in order.

        Raises:
            CaptureDied: the backend is gone and all it had captured was returned; every later
                call raises it too.
            CaptureClosed: closed before or while waiting.
        """
        ...

    def read(
        self, frames: int, timeout: float = 5.0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Wait for exactly `frames` frames and return them: what an encoder needs.

        They are copied once, into `out` (float32, C-contiguous, `(frames, channels)`) when
        given. The array is shorter only when `timeout` seconds passed or the backend died
        meanwhile. Frames lost on the way are counted in `stats.lost`. What other threads read
        meanwhile is missing from it: frames that follow one another are one thread's alone.

        Raises:
            CaptureDied, CaptureClosed: as `next_chunk`.
            TypeError, ValueError: `frames` is not a positive int, or `out` does not fit.
        """
        ...

    def drain(self) -> None:
        """Forget everything captured and not read, as when a capture kept open is reused."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that polls readable while audio waits, or the capture has ended.

        It belongs to the capture: poll it, never read it, forget it after `close`.
        """
        ...

    def close(self) -> None:
        """Leave the graph; a waiting reader gets `CaptureClosed`. Twice is fine."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __iter__(self) -> Iterator[Chunk]:
        """Yield chunks that hold audio, until the capture is closed."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield chunks that hold audio, until the capture is closed; never blocks the loop."""
        ...


class PipeWireCapture(Unshared, AudioCapturer):
    """The `AudioCapturer` that `open_audio_capture` returns."""

    def __init__(
        self, native: _native.Capture, channels: int, feeder: Router | OwnSink | None = None
    ) -> None:
        self._native = native
        self._feeder = feeder
        self._channels = channels
        self._last_stats = CaptureStats(0, 0, 0, 0, 0, 0, 0, 0, "closed")

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def stats(self) -> CaptureStats:
        try:
            raw = self._native.stats()
        except CaptureClosed:
            return self._last_stats
        return CaptureStats(
            frames=raw.frames,
            lost=raw.lost,
            missed=raw.missed,
            quanta=raw.cycles,
            quantum=raw.quantum,
            waiting=raw.depth,
            rate_hz=raw.rate_hz,
            graph_rate_hz=raw.graph_rate_hz,
            state=_native.STATES[raw.state],
            driver_id=None if raw.driver_id == _native.NO_NODE else raw.driver_id,
        )

    def next_chunk(self, timeout: float = 5.0) -> Chunk:
        return Chunk(*self._native.next_block(timeout))

    def read(
        self, frames: int, timeout: float = 5.0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        frames = arguments.whole("frames", frames)
        deadline = _native.Deadline(timeout)
        pcm = self._buffer(frames, out)
        return pcm[: self._native.fill(pcm, deadline)]

    def _buffer(self, frames: int, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        most = sys.maxsize // (np.dtype(np.float32).itemsize * self._channels)
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, not {frames}")
        if frames > most:
            raise ValueError(f"frames must be at most {most}, not {frames}")
        shape = (frames, self._channels)
        if out is None:
            return np.empty(shape, np.float32)
        if not isinstance(out, np.ndarray) or out.dtype != np.float32:
            raise TypeError(
                f"out must be a float32 numpy array, not {getattr(out, 'dtype', type(out))}"
            )
        if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(
                f"out must be C-contiguous, writable and of shape {shape}, not {out.shape}"
            )
        return out

    def drain(self) -> None:
        self._native.drain()

    def fileno(self) -> int:
        return self._native.fileno()

    def close(self) -> None:
        self._last_stats = replace(self.stats, state="closed")
        try:
            self._native.close()
        finally:
            if self._feeder is not None:
                self._feeder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        with contextlib.suppress(CaptureClosed):
            while True:
                chunk = self.next_chunk()
                if chunk:
                    yield chunk

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        with contextlib.suppress(CaptureClosed):
            while True:
                await readable(self._native.duplicate_fd())
                chunk = self.next_chunk(timeout=0)
                if chunk:
                    yield chunk


def open_audio_capture(
    channels: int = CHANNELS,
    *,
    target: str | Sink | None = None,
    apps: Iterable[str | int] | None = None,
    except_apps: Iterable[str | int] | None = None,
    sink: Literal["own"] | None = None,
    keep_local: bool = False,
    quantum_frames: int = 240,
    remote: str | os.PathLike[str] | None = None,
) -> AudioCapturer:
    """Capture what a sink or some applications play, as interleaved float32 at 48 kHz.

    Args:
        channels: 1, 2, 6 or 8 (mono, stereo, 5.1, 7.1; order in `stagebox.layout.POSITIONS`).
            A wider sink is mixed down; positions a narrower one lacks are exactly silent.
        target: the `node.name` of a sink, or a `stagebox.graph.Sink`, which is known by its name:
            it and nothing else is heard. While it is unplugged the capture waits (chunks stay
            empty, `stats.state` is "idle"), and it goes on when a sink of that name is back. None
            follows the default sink. Never a source.
        apps: only these applications, mixed, whatever sinks they play into, which goes on: names
            and binaries ("firefox", in whatever case) and process ids. Ones that start later
            join. In 2, 6 or 8 channels; one that the capture has not is heard at full level in
            the nearest that it has.
        except_apps: all applications but these, otherwise the same.
        sink: "own" makes a sink with exactly these channels at 48 kHz, which is the default until
            the capture is closed: what asks for 5.1 or 7.1 gets it, whatever the hardware has.
            Then the user's choice is the default again, after a crash at the next such open or by
            `stagebox restore`; one made meanwhile is left alone. The newest has the default.
        keep_local: with `sink="own"`, play it also into what was the default before, and where
            that is unplugged into what would be the default; a capture of that hears it there.
            A channel that it has not is heard at full level in the nearest that it has.
        quantum_frames: how many frames a graph cycle should have, 4 to 8192. The graph may
            choose fewer or more; 240 asks for 5 ms.
        remote: the name or socket path of one daemon. None is the session's (PIPEWIRE_REMOTE,
            PIPEWIRE_RUNTIME_DIR, XDG_RUNTIME_DIR).

    Returns once the capture is in the graph; on a graph without a sink it waits for one, and
    chunks stay empty until then.

    Raises:
        ValueError, TypeError: an argument is out of range, no sink has the name `target` or several
            have it, more than one of `target`, `apps`, `except_apps` and `sink` is given, or one
            that PIPEWIRE_NODE or PIPEWIRE_AUTOCONNECT in the environment would override.
        PipeWireUnavailable: no library, no daemon, or no answer within 5 s; for `sink` also where
            no session manager makes it the default.
        StageboxError, OSError: what was the default cannot be written down, so as to put it back
            (in $XDG_STATE_HOME/stagebox, else ~/.local/state/stagebox).
        UnsupportedPlatform: not Linux.
    """
    channels = arguments.channel_count(channels, POSITIONS)
    quantum = arguments.quantum(quantum_frames)
    name = None if target is None else _name_of(target)
    _check_choices(target=target, apps=apps, except_apps=except_apps, sink=sink)
    own = arguments.word("sink", sink, "own")
    if arguments.flag("keep_local", keep_local) and not own:
        raise ValueError('keep_local must be False, unless sink="own"')
    if own:
        return _open_own_sink(channels, quantum, remote, keep_local=keep_local)
    if apps is not None or except_apps is not None:
        return _open_of_applications(channels, apps, except_apps, quantum, remote)
    deadline = _native.Deadline(_native.OPEN_TIMEOUT)
    connection = _native.connect(remote, deadline)
    if name is not None:
        _check_sink(name, connection.sinks())
    native = _native.Capture(connection, channels, name, None, quantum, deadline)
    return PipeWireCapture(native, channels)


def _check_choices(**choices: object) -> None:
    given = [name for name, choice in choices.items() if choice is not None]
    if len(given) > 1:
        raise ValueError(f"only one of {', '.join(choices)} can be given, not {', '.join(given)}")
    for name in given:
        variable = _OVERRIDDEN_BY[name]
        if variable in os.environ:
            raise ValueError(
                f"{name} must not be given while {variable} is in the environment: libpipewire "
                "would obey that, and something else would be heard"
            )


def _open_of_applications(
    channels: int,
    apps: Iterable[str | int] | None,
    except_apps: Iterable[str | int] | None,
    quantum: int,
    remote: str | os.PathLike[str] | None,
) -> AudioCapturer:
    from . import routing  # noqa: PLC0415 - most captures do without, and it takes milliseconds

    if channels not in routing.CHANNEL_COUNTS:
        raise ValueError(
            f"channels must be one of {list(routing.CHANNEL_COUNTS)} for applications, "
            f"not {channels}"
        )
    chosen = routing.choice(apps, except_apps)
    deadline = _native.Deadline(_native.OPEN_TIMEOUT)
    connection = _native.connect(remote, deadline)
    route = os.urandom(8).hex()
    native = _native.Capture(connection, channels, None, route, quantum, deadline)
    with _native.closed_on_failure(native):
        wanted = functools.partial(routing.wanted, chosen=chosen, route=route)
        router = routing.Router(_native.connect(remote, deadline, "graph"), wanted)
    return PipeWireCapture(native, channels, router)


def _open_own_sink(
    channels: int, quantum: int, remote: str | os.PathLike[str] | None, *, keep_local: bool
) -> AudioCapturer:
    from . import own_sink  # noqa: PLC0415 - most captures do without

    native, sink = own_sink.opened(channels, quantum, remote, keep_local=keep_local)
    return PipeWireCapture(native, channels, sink)


def _name_of(target: str | Sink) -> str:
    if not isinstance(target, str):
        from .graph_state import Sink  # noqa: PLC0415 - most captures do without

        if not isinstance(target, Sink):
            raise TypeError(f"target must be a str or a Sink, not {type(target).__name__}")
        target = target.name
    arguments.text("target", target)
    return target


def _check_sink(target: str, sinks: list[tuple[int, str]]) -> None:
    ids = [str(number) for number, name in sinks if name == target]
    if not ids:
        known = ", ".join(sorted(repr(name) for _, name in sinks)) or "none"
        raise ValueError(
            f"target: there is no sink with node.name {target!r}; the graph's sinks: {known}"
        )
    if len(ids) > 1:
        raise ValueError(
            f"target: {len(ids)} sinks have the node.name {target!r}, which makes it ambiguous: "
            f"the objects {', '.join(ids)}"
        )
