"""MicPump: Opus packets from any number of sessions into one virtual microphone.

    MicSender.try_send -> bounded queue -> the pump's thread -> decoder -> VirtualMic.push

`pump_state.py` decides, this module does. Who holds whom: pump and senders hold the `_Core`, and
so does the thread; nothing holds a pump or a sender. So one that is forgotten is collected, lets
go, and the thread ends when the last has.

Senders take no lock the thread could hold while it waits for the interpreter lock: the queue and
the deques below are safe to use from any thread, a signal handler or a finalizer.
"""

import atexit
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self

import numpy as np

from . import arguments
from .errors import CodecError
from .layout import MIC_CHANNEL_COUNTS, MIC_CHANNELS
from .mic import open_virtual_mic
from .opus import MAX_PACKET_BYTES, MAX_PACKET_FRAMES, OpusDecoder
from .pump_state import (
    PUMP_TUNING,
    Action,
    Actions,
    Do,
    Log,
    PumpState,
    PumpTuning,
    State,
)
from .unshared import Unshared

if TYPE_CHECKING:
    from .mic import VirtualMic

MIC_QUEUE_CAP: Final = 64
"""Packets that can wait for the pump: 0.32 to 1.3 s of sound in packets of 5 to 20 ms."""

# An exit waits no longer than this for a pump that still runs, which may be amid an open.
_EXIT_PATIENCE_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PumpStats:
    """What a pump has done so far."""

    state: State
    """Where it is in its life; equal to its name in lower case, such as "running"."""
    packets: int
    """Packets taken from the queue."""
    pushed: int
    """Frames the microphone took."""
    dropped_full: int
    """Packets refused because the queue was full."""
    dropped_long: int
    """Packets refused because they were longer than a datagram can be, 65 535 bytes."""
    dropped_closed: int
    """Packets taken from the queue while there was no microphone."""
    decode_errors: int
    """Packets that were not Opus."""
    opens: int
    """Microphones opened."""
    open_failures: int
    """Attempts to open one that failed."""
    deaths: int
    """Microphones that died."""
    discards: int
    """Times the microphone was told to forget what it had not played, after a gap."""
    queued: int
    """Packets that wait now."""


class MicPump(Unshared):
    """Keeps a virtual microphone open and feeds it the Opus packets that its senders are given.

    One thread of its own opens the microphone as soon as the pump starts, decodes, pushes, and
    opens the next microphone when one dies; senders notice nothing of that but lost sound. The
    pump runs until it and all its senders are closed or garbage-collected.

    Any thread may call any method. In a forked child the pump has stopped: start another there.
    """

    def __init__(self, core: "_Core", thread: threading.Thread) -> None:
        """Not for callers: use `MicPump.start()`."""
        self._core = core
        self._thread = thread
        self._hold = core.hold(self)

    @classmethod
    def start(
        cls,
        opener: "Callable[[int], VirtualMic]" = open_virtual_mic,
        tuning: PumpTuning = PUMP_TUNING,
        channels: int = MIC_CHANNELS,
    ) -> Self:
        """Start a pump for a microphone of 1 or 2 channels, otherwise ValueError.

        The pump's thread calls `opener(channels)` for every microphone it needs, and all methods
        of what that returns, which may be anything that works like a `VirtualMic`. The array it
        pushes is reused for the next packet, and may be beyond ±1, which a `VirtualMic` clips.
        Whatever `opener` raises is logged and tried again later; only after UnsupportedPlatform
        the pump drops all packets instead.
        """
        channels = arguments.channel_count(channels, MIC_CHANNEL_COUNTS)
        if not callable(opener):
            raise TypeError(f"opener must be callable, not {type(opener).__name__}")
        if not isinstance(tuning, PumpTuning):
            raise TypeError(f"tuning must be a PumpTuning, not {type(tuning).__name__}")
        core = _Core(tuning)
        worker = _Worker(core, opener, channels)
        thread = threading.Thread(target=worker.run, name="stagebox-mic-pump", daemon=True)
        pump = cls(core, thread)
        _running[core] = thread  # before it runs: a fork or the end may come first
        try:
            thread.start()
        except RuntimeError:  # no more threads are to be had
            del _running[core]
            raise
        return pump

    def sender(self) -> "MicSender":
        """A new sender; RuntimeError once the pump is closed."""
        if not self._hold.alive:
            raise RuntimeError("the pump is closed")
        return MicSender(self._core)

    @property
    def stats(self) -> PumpStats:
        """What the pump has done so far, also after its end."""
        return self._core.stats()

    def close(self, timeout: float = 5.0) -> bool:
        """Let go of the pump and return whether it has stopped.

        While senders hold it, it serves them and this returns False at once. Otherwise this waits
        for the end, which comes after what is queued was pushed, up to `timeout` seconds; but
        not on the pump's own thread, as where a microphone closes its pump.
        """
        patience = min(arguments.seconds("timeout", timeout), threading.TIMEOUT_MAX)
        self._hold()
        senders = self._core.holds
        if senders and self._thread.is_alive():
            _log.info("the pump goes on for %d sender(s) that are still open", senders)
            return False
        if self._thread is threading.current_thread():
            return False
        self._thread.join(patience)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        """Return the pump, which is closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the pump."""
        self.close()


class MicSender(Unshared):
    """A session's handle on a pump, which goes on at least until this is closed or collected.

    Any thread may call any method.
    """

    def __init__(self, core: "_Core") -> None:
        """Not for callers: use `MicPump.sender()` or `MicSender.clone()`."""
        self._core = core
        self._hold = core.hold(self)

    def try_send(self, packet: bytes | bytearray | memoryview) -> bool:
        """Queue one Opus packet and return whether it was; never blocks.

        False means dropped: `MIC_QUEUE_CAP` packets wait already, it is longer than 65 535 bytes,
        the pump has stopped, or this sender is closed. `packet` is bytes-like, otherwise TypeError,
        and copied if it could change; an empty one is silence.
        """
        data = arguments.packet(packet)
        return self._hold.alive and self._core.offer(data)

    def clone(self) -> "MicSender":
        """Another sender to the same pump; RuntimeError once this one is closed."""
        if not self._hold.alive:
            raise RuntimeError("the sender is closed")
        return MicSender(self._core)

    def close(self) -> None:
        """Let go of the pump. A second time does nothing."""
        self._hold()

    def __enter__(self) -> Self:
        """Return the sender, which is closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the sender."""
        self.close()


class _Counts:
    """What the pump's thread counts; it alone writes."""

    def __init__(self) -> None:
        self.packets = 0
        self.pushed = 0
        self.dropped_closed = 0
        self.decode_errors = 0
        self.opens = 0
        self.open_failures = 0
        self.deaths = 0
        self.discards = 0


class _Core:
    """What senders, pump and thread share: the queue, who holds the pump, the counts."""

    def __init__(self, tuning: PumpTuning) -> None:
        self.machine = PumpState(tuning)  # driven by the thread; others only look at its state
        self.counts = _Counts()
        self._packets: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None wakes
        # One token for each place in the queue: taking one is the whole test for a full queue.
        self._places = deque([None] * MIC_QUEUE_CAP)
        self._holds: deque[None] = deque()  # one for each pump or sender that is open
        self._exiting = False
        self._dropped_full = 0
        self._dropped_long = 0
        # Only senders whose packet is dropped take it. Reentrant for signal handlers.
        self._drop_lock = threading.RLock()

    @property
    def holds(self) -> int:
        """How many handles are open."""
        return len(self._holds)

    @property
    def abandoned(self) -> bool:
        """Whether the pump is to stop. A wake-up in the queue tells when that becomes true."""
        return self._exiting or not self._holds

    def hold(self, handle: object) -> "weakref.finalize[[], object]":
        """Count an open handle. Calling what this returns, or forgetting the handle, lets go."""
        self._holds.append(None)
        hold = weakref.finalize(handle, self._let_go)
        hold.atexit = False
        return hold

    def _let_go(self) -> None:
        self._holds.pop()
        if not self._holds:
            self._packets.put(None)

    def exit(self) -> None:
        """Stop the pump, whoever holds it."""
        self._exiting = True
        self._packets.put(None)

    def offer(self, packet: bytes) -> bool:
        """Queue a packet unless the queue is full or the pump has stopped."""
        if self.machine.state is State.STOPPED:
            return False
        if len(packet) > MAX_PACKET_BYTES:
            with self._drop_lock:
                self._dropped_long += 1
            return False
        try:
            self._places.pop()
        except IndexError:
            with self._drop_lock:
                self._dropped_full += 1
            return False
        self._packets.put(packet)
        return True

    def take(self, timeout: float | None) -> bytes | None:
        """The next packet, or None for a wake-up; queue.Empty after `timeout` seconds."""
        packet = self._packets.get(timeout=timeout)
        if packet is not None:
            self._places.append(None)
            self.counts.packets += 1
        return packet

    def drop_queued(self) -> None:
        """Drop what the queue holds now; what comes meanwhile stays."""
        for _ in range(self._packets.qsize()):
            if self.take(timeout=0) is not None:
                self.counts.dropped_closed += 1

    def stats(self) -> PumpStats:
        return PumpStats(
            state=self.machine.state,
            dropped_full=self._dropped_full,
            dropped_long=self._dropped_long,
            queued=MIC_QUEUE_CAP - len(self._places),
            **vars(self.counts),
        )


class _Backend(NamedTuple):
    """A microphone, and the decoder for what it is to hear."""

    mic: "VirtualMic"
    decode: "Callable[[bytes], int]"


class _Worker:
    """The pump's thread: brings events to the state machine and performs its actions.

    A method that performs an action returns the machine's answer to what came of it, or None if
    that is no event.
    """

    def __init__(self, core: _Core, opener: "Callable[[int], VirtualMic]", channels: int) -> None:
        self._core = core
        self._counts = core.counts
        self._machine = core.machine
        self._opener = opener
        self._channels = channels
        self._open_backend: _Backend | None = None
        self._packet = b""  # the last that was taken from the queue
        self._pcm = np.zeros((MAX_PACKET_FRAMES, channels), np.float32)
        self._stopping = False

    def run(self) -> None:
        """What the thread does."""
        try:
            self._perform(self._machine.start(time.monotonic()))
            while not self._stopping:
                self._perform(self._next_event())
        except BaseException:
            _log.exception("the pump stops: its thread failed")
            raise
        finally:
            self._machine.senders_gone()  # a failed thread has stopped as well
            self._close()
            self._core.drop_queued()
            _running.pop(self._core, None)

    def _next_event(self) -> Actions:
        """Wait for a packet, a wake-up or the machine's deadline, which goes before packets."""
        deadline = self._machine.deadline
        wait = None
        if deadline is not None:
            now = time.monotonic()
            if now >= deadline:
                return self._machine.tick(now)
            wait = min(deadline - now, threading.TIMEOUT_MAX)
        try:
            packet = self._core.take(wait)
        except queue.Empty:
            return ()
        if packet is None:
            return self._machine.senders_gone() if self._core.abandoned else ()
        if self._open_backend is None:
            self._counts.dropped_closed += 1
        self._packet = packet
        return self._machine.packet(time.monotonic(), packet)

    def _perform(self, actions: Actions) -> None:
        while actions:
            answer = self._perform_one(actions[0])
            # What the machine says to what just happened replaces what it said before.
            actions = actions[1:] if answer is None else answer

    def _perform_one(self, action: Action) -> Actions | None:
        if isinstance(action, Log):
            _log.log(action.level, action.message)
            return None
        return self._performers[action](self)

    def _open(self) -> Actions:
        try:
            # The decoder first: without libopus no microphone should appear and vanish again.
            decode = OpusDecoder(self._channels).into(self._pcm)
            self._open_backend = _Backend(self._opener(self._channels), decode)
        except Exception as error:  # whatever a user's opener raises
            self._counts.open_failures += 1
            return self._machine.open_failed(time.monotonic(), error)
        self._core.drop_queued()  # before anyone can see that a microphone is open, and send
        self._counts.opens += 1
        ready = self._machine.opened(time.monotonic())
        # The wake-up for the end may have been among what was dropped.
        return self._machine.senders_gone() if self._core.abandoned else ready

    def _close(self) -> None:
        backend, self._open_backend = self._open_backend, None
        if backend is not None:
            _close_quietly(backend.mic)

    def _discard(self) -> Actions | None:
        self._counts.discards += 1
        mic = self._backend.mic

        def discard() -> bool:
            mic.discard()
            return True

        return self._unless_dead(discard)

    def _check_alive(self) -> Actions | None:
        mic = self._backend.mic
        return self._unless_dead(lambda: mic.alive)

    def _decode_and_push(self) -> Actions:
        mic, decode = self._backend
        try:
            frames = decode(self._packet)
        except CodecError as error:
            self._counts.decode_errors += 1
            return self._machine.decode_failed(time.monotonic(), error)
        died = self._unless_dead(mic.push, self._pcm[:frames])
        if died is not None:
            return died
        self._counts.pushed += frames
        return self._machine.pushed(time.monotonic())

    def _stop(self) -> None:
        self._stopping = True

    @property
    def _backend(self) -> _Backend:
        """The open backend: the machine asks for nothing that needs one while there is none."""
        if self._open_backend is None:
            raise RuntimeError("the pump has no microphone")
        return self._open_backend

    def _unless_dead(self, ask: Callable[..., bool], *values: Any) -> Actions | None:
        """Ask the microphone something: False means it is dead, and so does an exception."""
        try:
            if ask(*values):
                return None
        except Exception as error:  # whatever a user's microphone raises
            _log.debug("the microphone raised", exc_info=True)
            return self._died(error)
        return self._died()

    def _died(self, error: Exception | None = None) -> Actions:
        self._counts.deaths += 1
        return self._machine.backend_died(time.monotonic(), error)

    _performers: ClassVar[dict[Do, Callable[["_Worker"], Actions | None]]] = {
        Do.OPEN: _open,
        Do.CLOSE: _close,
        Do.DISCARD: _discard,
        Do.PUSH: _decode_and_push,
        Do.CHECK_ALIVE: _check_alive,
        Do.STOP: _stop,
    }


def _close_quietly(mic: "VirtualMic") -> None:
    try:
        mic.close()
    except Exception:  # whatever a user's microphone raises
        _log.warning("closing the microphone failed", exc_info=True)


_running: Final[dict[_Core, threading.Thread]] = {}


def _enter_child() -> None:
    """Stop what runs: the threads of a process that forked are not in its child."""
    for core in _running:
        core.machine.senders_gone()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


@atexit.register
def _stop_all() -> None:
    """Close the microphones of pumps that still run when the interpreter exits."""
    pumps = list(_running.items())
    for core, _ in pumps:
        core.exit()
    patience_ends = time.monotonic() + _EXIT_PATIENCE_S
    for _, thread in pumps:
        thread.join(max(0, patience_ends - time.monotonic()))
