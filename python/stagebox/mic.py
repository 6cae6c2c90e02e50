"""Voice in: a virtual microphone that every application can record."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

from . import _native, arguments
from .errors import BackendDied
from .layout import MIC_CHANNEL_COUNTS, MIC_CHANNELS, SAMPLE_RATE
from .unshared import Unshared

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from .claims import Claim

DEFAULT_PRIORITY: Final = 3000
"""`priority.session` that makes the session manager choose the microphone as default source
(hardware sources have about 2000), unless the user configured another."""

PLAIN_PRIORITY: Final = 50
"""`priority.session` below every hardware source."""


@dataclass(frozen=True, slots=True)
class MicStats:
    """A microphone's counters since it was opened, in frames unless said otherwise.

    pushed = played + dropped + trimmed + stale + discarded + depth, whenever nothing moves.

    Attributes:
        pushed: handed to `push`.
        played: delivered to the graph.
        dropped: not kept because the ring was full, as when nobody records.
        trimmed: cut from the oldest to bound the delay.
        stale: too old to play, or pushed while nobody recorded.
        discarded: by `discard`.
        underruns: cycles that had less than a quantum to play.
        reprimes: times the ring ran dry after playing.
        depth: frames in the ring now.
        target: frames the ring primes to.
        quantum: frames the recorder fetched last, 0 before it did.
        state: "opening", "idle" (nobody records), "streaming", "dead", "closed". PipeWire 1.6 has
            it stream to nobody while another microphone is recorded.
    """

    pushed: int
    played: int
    dropped: int
    trimmed: int
    stale: int
    discarded: int
    underruns: int
    reprimes: int
    depth: int
    target: int
    quantum: int
    state: str


class VirtualMic(Protocol):
    """A microphone the host produces. Every method may be called from any thread."""

    @property
    def channels(self) -> int:
        """Interleaved channels of what is pushed."""
        ...

    @property
    def alive(self) -> bool:
        """False once the backend is dead or closed, within a second and without a push."""
        ...

    @property
    def stats(self) -> object:
        """A snapshot of the backend's counters."""
        ...

    def push(self, pcm: NDArray[np.float32]) -> bool:
        """Hand over PCM to be recorded; never blocks.

        Threads that push at the same time take turns: the blocks of each stay whole and in
        order, one after another with those of the others; they are not mixed.

        `pcm` is float32 at 48 kHz, `(frames, channels)` or flat and interleaved, any
        C-contiguous buffer of at most 1 s. What is beyond ±1 is clipped to it, for people will
        hear it; NaN and infinities become silence.

        Returns False only when the backend is dead (or is being closed by another thread):
        reopen. A full ring drops the block and returns True; `stats.dropped` counts it.

        Raises:
            TypeError, ValueError: wrong dtype; wrong shape or size.
            BackendDied: the microphone was closed by its owner.
        """
        ...

    def discard(self) -> None:
        """Drop what has been pushed and not yet recorded, as after a gap in the uplink."""
        ...

    def close(self) -> None:
        """Leave the graph. Twice is fine."""
        ...


class PipeWireMic(Unshared, VirtualMic):
    """The `VirtualMic` that `open_virtual_mic` returns."""

    def __init__(self, native: _native.Mic, channels: int, claim: Claim | None = None) -> None:
        self._native = native
        self._claim = claim
        self._channels = channels
        self._last_stats = MicStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "closed")

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def alive(self) -> bool:
        return self._native.alive

    @property
    def stats(self) -> MicStats:
        """A snapshot of the counters."""
        try:
            raw = self._native.stats()
        except BackendDied:
            return self._last_stats
        return MicStats(
            pushed=raw.pushed,
            played=raw.played,
            dropped=raw.dropped,
            trimmed=raw.trimmed,
            stale=raw.stale,
            discarded=raw.discarded,
            underruns=raw.underruns,
            reprimes=raw.reprimes,
            depth=raw.depth,
            target=raw.target,
            quantum=raw.quantum,
            state=_native.STATES[raw.state],
        )

    def push(self, pcm: NDArray[np.float32] | Buffer) -> bool:
        return self._native.push(pcm, self._channels)

    def discard(self) -> None:
        self._native.discard()

    def set_target_frames(self, frames: int | None) -> None:
        """Fix the depth the ring primes to, 1 to 24000 frames (0.5 s); None has it chosen again.

        Chosen, it is one of the recorder's quanta plus the larger of 10 ms and the longest block
        pushed in the last seconds. Any thread; takes effect in the next cycle.
        """
        chosen = 0 if frames is None else arguments.whole("frames", frames)
        if frames is not None and not 1 <= chosen <= SAMPLE_RATE // 2:
            raise ValueError(f"frames must be 1 to {SAMPLE_RATE // 2}, or None, not {chosen}")
        self._native.set_target(chosen)

    def close(self) -> None:
        self._last_stats = replace(self.stats, state="closed")
        try:
            if self._claim is not None:
                self._claim.release()
        finally:
            self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_virtual_mic(
    channels: int = MIC_CHANNELS,
    *,
    name: str = "stagebox-mic",
    description: str = "Stagebox Remote Microphone",
    make_default: bool = True,
    default: Literal["session"] | None = None,
    quantum_frames: int = 240,
    remote: str | os.PathLike[str] | None = None,
) -> PipeWireMic:
    """Present a microphone (a PipeWire `Audio/Source`) that applications can record.

    Args:
        channels: 1 or 2.
        name: its `node.name`, what programs select it by: 1 to 4096 bytes of UTF-8.
        description: its `node.description`, what people see; as long as that.
        make_default: rank it above hardware (`priority.session` 3000, else 50). A default the
            user has configured is never overwritten.
        default: "session" chooses it as the default source in the user's place, instead of by its
            rank, until it is closed. Then the user's choice is the default again, after a crash at
            the next such open or by `stagebox restore`; one made meanwhile is left alone. The
            newest has the default.
        quantum_frames: how many frames a graph cycle should have, 4 to 8192; 240 asks for 5 ms.
        remote: the name or socket path of one daemon. None is the session's (PIPEWIRE_REMOTE,
            PIPEWIRE_RUNTIME_DIR, XDG_RUNTIME_DIR).

    Returns once the node is in the graph.

    Raises:
        ValueError, TypeError: an argument is out of range.
        PipeWireUnavailable: no library, no daemon (at once), or no answer within 5 s; for `default`
            also where no session manager makes it the default.
        StageboxError, OSError: what was the default cannot be written down, so as to put it back
            (in $XDG_STATE_HOME/stagebox, else ~/.local/state/stagebox).
        UnsupportedPlatform: not Linux.
    """
    channels = arguments.channel_count(channels, MIC_CHANNEL_COUNTS)
    arguments.text("name", name)
    arguments.text("description", description)
    quantum = arguments.quantum(quantum_frames)
    claims_default = arguments.word("default", default, "session")
    ranked = arguments.flag("make_default", make_default) and not claims_default
    token = os.urandom(8).hex() if claims_default else None
    deadline = _native.Deadline(_native.OPEN_TIMEOUT)
    connection = _native.connect(remote, deadline)
    native = _native.Mic(
        connection,
        channels,
        name=name,
        description=description,
        claim=token,
        priority=DEFAULT_PRIORITY if ranked else PLAIN_PRIORITY,
        quantum_frames=quantum,
        deadline=deadline,
    )
    if token is None:
        return PipeWireMic(native, channels)
    from . import claims, ledger  # noqa: PLC0415 - most microphones do without

    with _native.closed_on_failure(native):
        claim = claims.claim(connection.path, "source", ledger.Held(token, name))
    return PipeWireMic(native, channels, claim)
