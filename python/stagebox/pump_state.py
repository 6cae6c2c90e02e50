"""When the microphone pump opens, pushes, discards, gives up and tries again.

No thread, clock or I/O: events come in with the time, in seconds of a monotonic clock, and
actions come out, to be performed in order by whoever drives the machine (`pump.py`).

                            died after stable_after
                   +--------------------------------------+
                   v                                      |
    NEW --start--> OPENING ------------opened---------> RUNNING
                   |  |  ^                                |
                   |  |  +--tick, after the wait--+       | died before stable_after
                   |  |                           |       |
                   |  +------open_failed-------> BACKING_OFF
                   |
                   +--open_failed, UnsupportedPlatform--> UNSUPPORTED

    any state --senders_gone--> STOPPED

The wait doubles with every failure up to a cap. An open that succeeds does not make it short
again, for the backend may die at once; only one that lived for `stable_after` does. Where there
is no daemon at all the wait is one heartbeat and doubles nothing: asking costs nothing then, and
the backend is to be back as soon as its daemon is.
"""

import enum
import logging
import numbers
import sys
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from .errors import DaemonAbsent, UnsupportedPlatform


@dataclass(frozen=True, slots=True)
class PumpTuning:
    """How patient a pump is; all in seconds, finite and not negative, otherwise ValueError."""

    backoff_start: float
    """Wait after the first open that failed though there is a daemon; greater than 0."""
    backoff_cap: float
    """The longest wait, which doubling stops at; at least `backoff_start`."""
    heartbeat: float
    """A backend that gave no sign of life for this long is asked for one, and an absent daemon is
    looked for this often; greater than 0."""
    stale_gap: float
    """A gap between packets longer than this discards what the backend still holds."""
    stable_after: float
    """A backend that dies younger than this counts as one that failed to open."""

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not is_number:
                raise TypeError(f"{field.name} must be seconds, not {type(value).__name__}")
            if not 0 <= value <= sys.float_info.max:
                raise ValueError(f"{field.name} must be finite seconds, 0 or more, not {value!r}")
        for name in ("backoff_start", "heartbeat"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be more than 0 seconds")
        if self.backoff_cap < self.backoff_start:
            raise ValueError(
                f"backoff_cap must be at least backoff_start, {self.backoff_start!r}, "
                f"not {self.backoff_cap!r}"
            )


PUMP_TUNING: Final = PumpTuning(
    backoff_start=2, backoff_cap=60, heartbeat=1, stale_gap=0.6, stable_after=5
)
"""The tuning of a pump unless given another."""


class State(enum.StrEnum):
    """Where a pump is in its life."""

    NEW = enum.auto()
    """Not started."""
    OPENING = enum.auto()
    """The backend is being opened."""
    RUNNING = enum.auto()
    """Packets flow into the backend."""
    BACKING_OFF = enum.auto()
    """There is no backend; the next attempt waits. Packets are dropped."""
    UNSUPPORTED = enum.auto()
    """This platform will never have a backend. Packets are dropped."""
    STOPPED = enum.auto()
    """Over, for good."""


class Do(enum.Enum):
    """What to do, where the word says it all."""

    OPEN = enum.auto()
    """Open a backend and drop every packet that waits, which is older than it, then tell
    `opened()`; or tell `open_failed()`."""
    CLOSE = enum.auto()
    """Close the backend."""
    DISCARD = enum.auto()
    """Have the backend forget what it has not played yet."""
    PUSH = enum.auto()
    """Decode the packet that was told last and push it, then tell `pushed()`, `decode_failed()`
    or `backend_died()`."""
    CHECK_ALIVE = enum.auto()
    """Ask whether the backend is alive, and tell `backend_died()` if it is not."""
    STOP = enum.auto()
    """End the pump."""


class Log(NamedTuple):
    """Log a message at one of the levels of `logging`."""

    level: int
    message: str


Action = Do | Log
Actions = tuple[Action, ...]

# What is asked for with every packet, looked up once: CPython 3.11 takes 0.2 µs for each `Do.X`.
_RUNNING: Final = State.RUNNING
_PUSH: Final[Actions] = (Do.PUSH,)
_DISCARD_AND_PUSH: Final[Actions] = (Do.DISCARD, Do.PUSH)


class PumpState:
    """The pump's state machine. Every event answers with the actions it calls for, in order.

    An event that cannot happen in the present state is a mistake in the driver and raises
    RuntimeError; after the end every event answers nothing. A driver that performs `Do.OPEN`
    tells its outcome before any other event.
    """

    __slots__ = (
        "_backoff",
        "_bad_packets",
        "_failures",
        "_last_push",
        "_opened_at",
        "_tuning",
        "deadline",
        "state",
    )

    def __init__(self, tuning: PumpTuning = PUMP_TUNING) -> None:
        """Make a machine that waits for `start()`."""
        self._tuning = tuning
        self.state = State.NEW
        self.deadline: float | None = None
        """When the next `tick()` is due, whatever else happens before it."""
        self._backoff = tuning.backoff_start  # the wait after the next failure
        self._failures = 0  # opens that failed since a backend last proved stable
        self._bad_packets = 0  # since the backend opened
        self._opened_at = 0.0
        self._last_push = 0.0

    def start(self, now: float) -> Actions:  # noqa: ARG002 (every event has the time)
        """Begin. The backend opens at once, so that it is there before anyone looks for it."""
        return self._open() if self._expects(State.NEW) else ()

    def opened(self, now: float) -> Actions:
        """There is a backend."""
        if not self._expects(State.OPENING):
            return ()
        self.state = State.RUNNING
        self.deadline = now + self._tuning.heartbeat
        self._opened_at = self._last_push = now
        self._bad_packets = 0
        return (Log(logging.INFO, "virtual microphone ready"),)

    def open_failed(self, now: float, error: Exception) -> Actions:
        """There is no backend, and `error` says why."""
        if not self._expects(State.OPENING):
            return ()
        if isinstance(error, UnsupportedPlatform):
            self.state = State.UNSUPPORTED
            return (Log(logging.WARNING, f"packets for the microphone are dropped: {error}"),)
        reason = f"virtual microphone unavailable: {_told(error)}"
        if isinstance(error, DaemonAbsent):
            return self._wait(now, self._tuning.heartbeat, reason)
        return self._back_off(now, reason)

    def packet(self, now: float, data: bytes) -> Actions:
        """A packet was taken from the queue. An empty one is silence (Opus DTX)."""
        if self.state is not _RUNNING:
            self._expects(State.OPENING, State.BACKING_OFF, State.UNSUPPORTED)
            return ()
        if not data:
            return ()
        if now - self._last_push > self._tuning.stale_gap:
            return _DISCARD_AND_PUSH
        return _PUSH

    def pushed(self, now: float) -> Actions:
        """The backend took the packet's sound, which also proves that it is alive."""
        if self.state is _RUNNING or self._expects(_RUNNING):
            self._last_push = now
            self.deadline = now + self._tuning.heartbeat
        return ()

    def decode_failed(self, now: float, error: Exception) -> Actions:  # noqa: ARG002
        """The packet was junk. The next may be good: one bad sender must not silence the rest."""
        if not self._expects(State.RUNNING):
            return ()
        self._bad_packets += 1
        if not _is_told(self._bad_packets):
            return ()
        # Not in a row: among another sender's good packets every bad one would be the first again.
        message = f"packet dropped, {self._bad_packets} so far: {_told(error)}"
        return (Log(logging.WARNING, message),)

    def tick(self, now: float) -> Actions:
        """Time passed. Before the deadline that means nothing."""
        if self.deadline is None or now < self.deadline:
            return ()
        if self.state is State.BACKING_OFF:
            return self._open()
        # Counted as a sign of life already: if it turns out dead, `backend_died()` follows.
        self.deadline = now + self._tuning.heartbeat
        return (Do.CHECK_ALIVE,)

    def backend_died(self, now: float, error: Exception | None = None) -> Actions:
        """The backend is dead, or as good as that if it raised `error`."""
        if not self._expects(State.RUNNING):
            return ()
        reason = "virtual microphone died" + (f": {_told(error)}" if error else "")
        if now - self._opened_at < self._tuning.stable_after:
            return (Do.CLOSE, *self._back_off(now, f"{reason}, soon after it opened"))
        self._backoff = self._tuning.backoff_start
        self._failures = 0
        return (Do.CLOSE, Log(logging.WARNING, f"{reason}; opening another"), *self._open())

    def senders_gone(self) -> Actions:
        """Nobody can send any more."""
        if self.state is State.STOPPED:
            return ()
        had_backend = self.state is State.RUNNING
        self.state = State.STOPPED
        self.deadline = None
        return (Do.CLOSE, Do.STOP) if had_backend else (Do.STOP,)

    def _expects(self, *states: State) -> bool:
        """Whether an event counts: it does in `states`, and after the end it does not."""
        if self.state is State.STOPPED:
            return False
        if self.state not in states:
            raise RuntimeError(f"not an event of a pump that is {self.state}")
        return True

    def _open(self) -> Actions:
        self.state = State.OPENING
        self.deadline = None
        return (Do.OPEN,)

    def _back_off(self, now: float, reason: str) -> Actions:
        wait = self._backoff
        self._backoff = min(2 * wait, self._tuning.backoff_cap)
        return self._wait(now, wait, reason)

    def _wait(self, now: float, wait: float, reason: str) -> Actions:
        self.state = State.BACKING_OFF
        self.deadline = now + wait
        self._failures += 1
        if not _is_told(self._failures):
            return ()
        message = f"{reason}; trying again in {wait:g} s (failure {self._failures})"
        return (Log(logging.WARNING, message),)


def _is_told(count: int) -> bool:
    """Repeated failures are logged the 1st, 2nd, 4th, 8th … time."""
    return count.bit_count() == 1


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
