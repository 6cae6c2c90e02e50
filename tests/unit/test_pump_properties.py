"""What holds for the pump's state machine whatever happens, in any order, at any time.

Hypothesis plays the world: it decides when time passes, what arrives, and how the backend and
the decoder behave. The driver below performs the machine's actions as the pump's thread does and
checks each against a model of the world that knows nothing of the machine.
"""

from collections import deque
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stagebox.errors import CodecError, PipeWireUnavailable, UnsupportedPlatform
from stagebox.pump_state import (
    Action,
    Actions,
    Do,
    Log,
    PumpState,
    PumpTuning,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Powers of two, so that sums of times are exact and limits can be hit exactly.
TUNING = PumpTuning(backoff_start=0.25, backoff_cap=3, heartbeat=1, stale_gap=0.5, stable_after=2)
SPANS = st.sampled_from([0, 0.125, 0.25, 0.375, 0.5, 0.625, 1, 2, 4])
GOOD, JUNK, DTX = b"good", b"junk", b""


class PumpWorld(RuleBasedStateMachine):
    """A driver, a backend and senders, all in one hand."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = PumpState(TUNING)
        self.now = 1000.0
        # The world
        self.will_open: Exception | None = None
        self.backends_open = 0
        self.backend_alive = False
        self.opened_at = self.last_push = self.last_sign = self.now
        self.packet = DTX
        self.discarded = False
        self.stopped = False
        self.performers: dict[Do, Callable[[], Actions]] = {
            Do.OPEN: self.open,
            Do.CLOSE: self.close,
            Do.DISCARD: self.discard,
            Do.PUSH: self.decode_and_push,
            Do.CHECK_ALIVE: self.check_alive,
            Do.STOP: self.stop,
        }
        # What the waits between opens should be
        self.expected_wait = TUNING.backoff_start
        self.opens_again_at: float | None = None

    # The driver

    def perform(self, actions: Actions) -> None:
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            assert not self.stopped, "nothing is done after the end"
            if action is Do.DISCARD:
                assert todo[0] is Do.PUSH, "discards only before a push"
            todo.extend(self.perform_one(action))

    def perform_one(self, action: Action) -> Actions:
        match action:
            case Log():
                return ()
            case _:
                return self.performers[action]()

    def open(self) -> Actions:
        assert self.backends_open == 0, "never two backends"
        assert self.opens_again_at is None or self.now >= self.opens_again_at
        self.opens_again_at = None
        if self.will_open is not None:
            if not isinstance(self.will_open, UnsupportedPlatform):
                self.expect_wait()
            return self.machine.open_failed(self.now, self.will_open)
        self.backends_open = 1
        self.backend_alive = True
        self.opened_at = self.last_push = self.last_sign = self.now
        return self.machine.opened(self.now)

    def close(self) -> Actions:
        assert self.backends_open == 1
        self.backends_open = 0
        return ()

    def discard(self) -> Actions:
        assert self.backends_open == 1, "never a discard without a backend"
        self.discarded = True
        return ()

    def decode_and_push(self) -> Actions:
        assert self.packet != DTX, "silence is not decoded"
        gap = self.now - self.last_push
        assert self.discarded == (gap > TUNING.stale_gap), "discards exactly when the gap demands"
        if self.packet == JUNK:
            return self.machine.decode_failed(self.now, CodecError("junk"))
        assert self.backends_open == 1, "never a push without a backend"
        if not self.backend_alive:
            return self.died()
        self.last_push = self.last_sign = self.now
        return self.machine.pushed(self.now)

    def check_alive(self) -> Actions:
        assert self.backends_open == 1
        assert self.now - self.last_sign >= TUNING.heartbeat
        if not self.backend_alive:
            return self.died()
        self.last_sign = self.now
        return ()

    def stop(self) -> Actions:
        assert self.backends_open == 0, "closed before the end"
        self.stopped = True
        return ()

    def died(self) -> Actions:
        if self.now - self.opened_at >= TUNING.stable_after:
            self.expected_wait = TUNING.backoff_start
        else:
            self.expect_wait()
        return self.machine.backend_died(self.now)

    def expect_wait(self) -> None:
        assert TUNING.backoff_start <= self.expected_wait <= TUNING.backoff_cap
        self.opens_again_at = self.now + self.expected_wait
        self.expected_wait = min(2 * self.expected_wait, TUNING.backoff_cap)

    # The world

    @initialize(daemon=st.booleans())
    def start(self, daemon: bool) -> None:
        self.will_open = None if daemon else PipeWireUnavailable("no daemon")
        self.perform(self.machine.start(self.now))

    @rule(span=SPANS)
    def time_passes(self, span: float) -> None:
        """Let time pass, with the ticks a prompt driver gives."""
        end = self.now + span
        while (deadline := self.machine.deadline) is not None and deadline <= end:
            self.now = deadline
            self.perform(self.machine.tick(self.now))
            assert self.machine.deadline != deadline, "a tick that is due moves things on"
        self.now = end

    @rule(span=SPANS)
    def the_driver_is_late(self, span: float) -> None:
        self.now += span
        self.perform(self.machine.tick(self.now))

    @rule(packet=st.sampled_from([GOOD, GOOD, JUNK, DTX]))
    def a_packet_arrives(self, packet: bytes) -> None:
        self.discarded = False
        self.packet = packet
        answer = self.machine.packet(self.now, packet)
        if self.backends_open == 0 or packet == DTX:
            assert answer == ()
        else:
            assert answer[-1] is Do.PUSH
        self.perform(answer)

    @rule()
    def the_backend_dies(self) -> None:
        self.backend_alive = False

    @rule(daemon=st.booleans())
    def the_daemon_comes_or_goes(self, daemon: bool) -> None:
        if not isinstance(self.will_open, UnsupportedPlatform):
            self.will_open = None if daemon else PipeWireUnavailable("no daemon")

    @precondition(lambda self: self.machine.state is State.BACKING_OFF)
    @rule()
    def the_platform_turns_out_unsupported(self) -> None:
        self.will_open = UnsupportedPlatform("not Linux")

    # Rare, or no run would get far.
    @rule(really=st.integers(0, 9))
    def the_senders_go(self, really: int) -> None:
        if really == 9:
            self.perform(self.machine.senders_gone())
            assert self.machine.state is State.STOPPED

    # What always holds

    @invariant()
    def a_backend_is_open_exactly_while_running(self) -> None:
        assert self.backends_open == (self.machine.state is State.RUNNING)

    @invariant()
    def the_deadline_is_the_next_open_or_heartbeat(self) -> None:
        expected = None
        if self.machine.state is State.RUNNING:
            expected = self.last_sign + TUNING.heartbeat
        elif self.machine.state is State.BACKING_OFF:
            expected = self.opens_again_at
        assert self.machine.deadline == expected

    @invariant()
    def only_the_end_stops_it(self) -> None:
        assert self.stopped == (self.machine.state is State.STOPPED)


TestPumpWorld = PumpWorld.TestCase
TestPumpWorld.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
