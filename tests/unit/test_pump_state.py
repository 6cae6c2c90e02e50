"""The rules of the pump, one by one, in no time at all."""

import logging
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from stagebox.errors import CodecError, DaemonAbsent, PipeWireUnavailable, UnsupportedPlatform
from stagebox.pump_state import (
    PUMP_TUNING,
    Actions,
    Do,
    Log,
    PumpState,
    PumpTuning,
    State,
)

TUNING = PumpTuning(backoff_start=2, backoff_cap=10, heartbeat=1, stale_gap=0.5, stable_after=5)
PACKET = b"opus"
DTX = b""
REFUSED = PipeWireUnavailable("no node")
NO_DAEMON = DaemonAbsent("no daemon")
JUNK = CodecError("junk")


def opening(now: float = 0) -> PumpState:
    machine = PumpState(TUNING)
    machine.start(now)
    return machine


def running(now: float = 0) -> PumpState:
    machine = opening(now)
    machine.opened(now)
    return machine


def backing_off(now: float = 0) -> PumpState:
    machine = opening(now)
    machine.open_failed(now, REFUSED)
    return machine


def unsupported() -> PumpState:
    machine = opening()
    machine.open_failed(0, UnsupportedPlatform("not Linux"))
    return machine


def stopped() -> PumpState:
    machine = running()
    machine.senders_gone()
    return machine


def without_logs(actions: Actions) -> Actions:
    return tuple(action for action in actions if not isinstance(action, Log))


def logs(actions: Actions) -> list[Log]:
    return [action for action in actions if isinstance(action, Log)]


def deadline_of(machine: PumpState) -> float:
    assert machine.deadline is not None
    return machine.deadline


# Opening


def test_a_new_machine_waits_for_its_start() -> None:
    machine = PumpState(TUNING)
    assert machine.state is State.NEW
    assert machine.deadline is None


def test_a_machine_has_the_usual_tuning_unless_given_another() -> None:
    machine = PumpState()
    machine.start(0)
    machine.open_failed(0, REFUSED)
    assert machine.deadline == PUMP_TUNING.backoff_start


def test_the_backend_opens_at_the_start_without_a_packet() -> None:
    machine = PumpState(TUNING)
    assert machine.start(0) == (Do.OPEN,)
    assert machine.state is State.OPENING
    assert machine.deadline is None


def test_an_open_that_succeeds_makes_the_pump_run() -> None:
    machine = opening()
    assert without_logs(machine.opened(3)) == ()
    assert machine.state is State.RUNNING


def test_a_successful_open_is_logged() -> None:
    assert logs(opening().opened(3)) == [Log(logging.INFO, "virtual microphone ready")]


# Backing off


def test_a_failed_open_is_tried_again_after_the_backoff() -> None:
    machine = opening()
    assert without_logs(machine.open_failed(7, REFUSED)) == ()
    assert machine.state is State.BACKING_OFF
    assert machine.deadline == 7 + TUNING.backoff_start


def test_the_backend_opens_again_when_the_wait_is_over() -> None:
    machine = backing_off(7)
    assert machine.tick(8.9) == ()
    assert machine.tick(9) == (Do.OPEN,)
    assert machine.state is State.OPENING
    assert machine.deadline is None


def waits_of(machine: PumpState, failures: int) -> list[float]:
    """How long the machine waits after each of several failed opens, from OPENING on."""
    waits, now = [], 0.0
    for _ in range(failures):
        machine.open_failed(now, REFUSED)
        waits.append(deadline_of(machine) - now)
        now = deadline_of(machine)
        machine.tick(now)
    return waits


def test_the_backoff_doubles_up_to_the_cap() -> None:
    assert waits_of(opening(), 5) == [2, 4, 8, 10, 10]


def test_a_successful_open_does_not_shorten_the_backoff() -> None:
    machine = opening()
    waits_of(machine, 2)
    machine.opened(100)
    machine.backend_died(101)
    assert machine.deadline == 101 + 8


def test_an_absent_daemon_is_looked_for_at_every_heartbeat_however_long_it_is_away() -> None:
    machine, now = opening(), 0.0
    for _ in range(10):
        machine.open_failed(now, NO_DAEMON)
        assert machine.deadline == now + TUNING.heartbeat
        now = deadline_of(machine)
        assert machine.tick(now) == (Do.OPEN,)
    assert waits_of(machine, 2) == [2, 4]  # a daemon that refuses is left alone as ever


def test_an_absent_daemon_is_logged_the_1st_2nd_4th_and_8th_time() -> None:
    machine, told = opening(), []
    for failure in range(1, 17):
        if logs(machine.open_failed(0, NO_DAEMON)):
            told.append(failure)
        machine.tick(math.inf)
    assert told == [1, 2, 4, 8, 16]


def test_failed_opens_are_logged_the_1st_2nd_4th_and_8th_time() -> None:
    machine, told = opening(), []
    for failure in range(1, 17):
        if logs(machine.open_failed(0, REFUSED)):
            told.append(failure)
        machine.tick(math.inf)
    assert told == [1, 2, 4, 8, 16]


def test_a_failed_open_is_logged_with_its_reason_the_wait_and_the_count() -> None:
    (log,) = logs(opening().open_failed(0, REFUSED))
    assert log.level == logging.WARNING
    assert "PipeWireUnavailable: no node; trying again in 2 s (failure 1)" in log.message


# Dying


def test_a_backend_that_proved_stable_is_replaced_at_once() -> None:
    machine = running()
    answer = machine.backend_died(TUNING.stable_after)
    assert without_logs(answer) == (Do.CLOSE, Do.OPEN)
    assert machine.state is State.OPENING


def test_a_backend_that_proved_stable_resets_the_backoff_and_the_count() -> None:
    machine = opening()
    waits_of(machine, 3)
    machine.opened(100)
    machine.backend_died(100 + TUNING.stable_after)
    assert len(logs(machine.open_failed(200, REFUSED))) == 1  # the 4th, and the 1st again
    assert machine.deadline == 200 + TUNING.backoff_start
    machine.tick(300)
    assert "failure 2" in logs(machine.open_failed(300, REFUSED))[0].message


def test_a_backend_that_died_young_counts_as_a_failed_open() -> None:
    machine = running()
    answer = machine.backend_died(TUNING.stable_after - 0.1)
    assert without_logs(answer) == (Do.CLOSE,)
    assert "failure 1" in logs(answer)[0].message
    assert machine.state is State.BACKING_OFF
    assert machine.deadline == TUNING.stable_after - 0.1 + TUNING.backoff_start


def test_backends_that_keep_dying_young_back_off_further_and_further() -> None:
    machine, now, waits = running(), 0.0, []
    for _ in range(5):
        machine.backend_died(now)
        waits.append(deadline_of(machine) - now)
        now = deadline_of(machine)
        machine.tick(now)
        machine.opened(now)
    assert waits == [2, 4, 8, 10, 10]


@pytest.mark.parametrize("age", [0, TUNING.stable_after])
def test_a_death_is_logged_with_what_the_backend_raised(age: float) -> None:
    (log,) = logs(running().backend_died(age, OSError("broken pipe")))
    assert log.level == logging.WARNING
    assert "died: OSError: broken pipe" in log.message


@pytest.mark.parametrize("age", [0, TUNING.stable_after])
def test_a_death_without_a_reason_is_logged(age: float) -> None:
    (log,) = logs(running().backend_died(age))
    assert "died" in log.message


# Packets


def test_a_packet_is_decoded_and_pushed() -> None:
    machine = running()
    assert machine.packet(0.1, PACKET) == (Do.PUSH,)
    assert machine.pushed(0.1) == ()


def test_an_empty_packet_is_silence() -> None:
    assert running().packet(0.1, DTX) == ()


@pytest.mark.parametrize("make", [opening, backing_off, unsupported])
def test_a_packet_without_a_backend_is_dropped(make: Callable[[], PumpState]) -> None:
    assert make().packet(0.1, PACKET) == ()


def test_a_gap_since_the_last_push_discards_first() -> None:
    machine = running()
    machine.pushed(10)
    assert machine.packet(10.51, PACKET) == (Do.DISCARD, Do.PUSH)


def test_a_gap_of_exactly_the_limit_does_not_discard() -> None:
    machine = running()
    machine.pushed(10)
    assert machine.packet(10.5, PACKET) == (Do.PUSH,)


def test_the_first_gap_is_measured_from_the_opening() -> None:
    assert running(10).packet(10.4, PACKET) == (Do.PUSH,)
    assert running(10).packet(10.6, PACKET) == (Do.DISCARD, Do.PUSH)


def test_neither_silence_nor_junk_ends_a_gap() -> None:
    machine = running()
    machine.packet(0.4, DTX)
    machine.packet(0.4, b"junk")
    machine.decode_failed(0.4, JUNK)
    assert machine.packet(0.6, PACKET) == (Do.DISCARD, Do.PUSH)


def test_a_push_ends_a_gap() -> None:
    machine = running()
    machine.packet(0.6, PACKET)
    machine.pushed(0.6)
    assert machine.packet(0.7, PACKET) == (Do.PUSH,)


def test_packets_that_will_not_decode_are_logged_the_1st_2nd_4th_and_8th_time() -> None:
    machine = running()
    told = [n for n in range(1, 17) if logs(machine.decode_failed(0, JUNK))]
    assert told == [1, 2, 4, 8, 16]
    assert machine.state is State.RUNNING


def test_a_packet_that_will_not_decode_is_logged_with_its_reason_and_the_count() -> None:
    assert running().decode_failed(0, JUNK) == (
        Log(logging.WARNING, "packet dropped, 1 so far: CodecError: junk"),
    )


def spoil(machine: PumpState, packets: int) -> list[Log]:
    return [log for _ in range(packets) for log in logs(machine.decode_failed(0, JUNK))]


def test_good_packets_between_bad_ones_do_not_make_every_bad_one_news() -> None:
    machine = running()
    told = []
    for n in range(1, 1001):
        told += [n for _ in spoil(machine, 1)]
        machine.pushed(0)
    assert told == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_a_new_backend_begins_a_new_count_of_bad_packets() -> None:
    machine = running()
    spoil(machine, 2)
    machine.backend_died(TUNING.stable_after)
    machine.opened(TUNING.stable_after)
    assert "1 so far" in spoil(machine, 1)[0].message


# The heartbeat


def test_an_idle_backend_is_asked_whether_it_is_alive_every_heartbeat() -> None:
    machine = running(10)
    assert machine.deadline == 11
    assert machine.tick(10.9) == ()
    assert machine.tick(11.25) == (Do.CHECK_ALIVE,)
    assert machine.deadline == 12.25


def test_a_push_is_as_good_as_a_heartbeat() -> None:
    machine = running()
    machine.pushed(0.75)
    assert machine.deadline == 1.75
    assert machine.tick(1.5) == ()


def test_neither_silence_nor_junk_puts_off_the_heartbeat() -> None:
    machine = running()
    machine.packet(0.9, DTX)
    machine.packet(0.9, b"junk")
    machine.decode_failed(0.9, JUNK)
    assert machine.tick(1) == (Do.CHECK_ALIVE,)


def test_a_backend_found_dead_while_idle_is_replaced() -> None:
    machine = running()
    machine.tick(6)
    assert Do.OPEN in machine.backend_died(6)


# A platform without microphones


def test_an_unsupported_platform_is_logged_once_and_never_tried_again() -> None:
    machine = opening()
    (log,) = machine.open_failed(0, UnsupportedPlatform("not Linux"))
    assert log == Log(logging.WARNING, "packets for the microphone are dropped: not Linux")
    assert machine.state is State.UNSUPPORTED
    assert machine.deadline is None
    assert machine.packet(1, PACKET) == machine.tick(1000) == ()


# The end


@pytest.mark.parametrize("make", [lambda: PumpState(TUNING), opening, backing_off, unsupported])
def test_without_a_backend_the_end_only_stops(make: Callable[[], PumpState]) -> None:
    machine = make()
    assert machine.senders_gone() == (Do.STOP,)
    assert machine.state is State.STOPPED
    assert machine.deadline is None


def test_with_a_backend_the_end_closes_it() -> None:
    machine = running()
    assert machine.senders_gone() == (Do.CLOSE, Do.STOP)
    assert machine.state is State.STOPPED
    assert machine.deadline is None


Event = Callable[[PumpState], Actions]
EVENTS: dict[str, Event] = {
    "start": lambda machine: machine.start(1),
    "opened": lambda machine: machine.opened(1),
    "open_failed": lambda machine: machine.open_failed(1, REFUSED),
    "packet": lambda machine: machine.packet(1, PACKET),
    "pushed": lambda machine: machine.pushed(1),
    "decode_failed": lambda machine: machine.decode_failed(1, JUNK),
    "tick": lambda machine: machine.tick(1000),
    "backend_died": lambda machine: machine.backend_died(1),
    "senders_gone": lambda machine: machine.senders_gone(),
}


@pytest.mark.parametrize("event", EVENTS)
def test_after_the_end_every_event_answers_nothing(event: str) -> None:
    machine = stopped()
    assert EVENTS[event](machine) == ()
    assert machine.state is State.STOPPED
    assert machine.deadline is None


# Mistakes of a driver

IMPOSSIBLE: dict[Callable[[], PumpState], str] = {
    lambda: PumpState(TUNING): "opened open_failed packet pushed decode_failed backend_died",
    opening: "start pushed decode_failed backend_died",
    running: "start opened open_failed",
    backing_off: "start opened open_failed pushed decode_failed backend_died",
    unsupported: "start opened open_failed pushed decode_failed backend_died",
}


@pytest.mark.parametrize(
    ("make", "event"),
    [(make, event) for make, events in IMPOSSIBLE.items() for event in events.split()],
)
def test_an_event_that_cannot_happen_now_is_an_error(
    make: Callable[[], PumpState], event: str
) -> None:
    machine = make()
    before = machine.state
    with pytest.raises(RuntimeError, match=f"not an event of a pump that is {before}"):
        EVENTS[event](machine)
    assert machine.state is before


# The tuning


def test_the_usual_tuning_is_the_specified_one() -> None:
    assert PumpTuning(2, 60, 1, 0.6, 5) == PUMP_TUNING


def test_a_tuning_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PUMP_TUNING.heartbeat = 2  # type: ignore[misc]


NAMES = ("backoff_start", "backoff_cap", "heartbeat", "stale_gap", "stable_after")


def tuning_with(**changed: Any) -> PumpTuning:
    return PumpTuning(**(dict(zip(NAMES, (2, 60, 1, 0.6, 5), strict=True)) | changed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, -0.001, math.inf, -math.inf, math.nan])
def test_a_time_that_is_negative_or_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite seconds, 0 or more, not {value}"):
        tuning_with(**{name: value})


@pytest.mark.parametrize("name", ["backoff_start", "heartbeat"])
def test_a_pump_must_not_spin(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        tuning_with(**{name: 0})


@pytest.mark.parametrize("name", ["stale_gap", "stable_after"])
def test_the_other_times_may_be_zero(name: str) -> None:
    assert getattr(tuning_with(**{name: 0}), name) == 0


def test_a_cap_below_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="backoff_cap must be at least backoff_start, 2, not 1"):
        tuning_with(backoff_cap=1)


def test_a_time_that_is_no_number_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        tuning_with(heartbeat="1")
