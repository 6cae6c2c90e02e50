"""The pump on its real thread, with a fake microphone and a tuning of milliseconds."""

import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stagebox.errors import CodecError, PipeWireUnavailable, UnsupportedPlatform
from stagebox.opus import OpusEncoder
from stagebox.pump import MIC_QUEUE_CAP, MicPump, MicSender
from stagebox.pump_state import PumpTuning, State
from tests.conftest import wait_until

PACKET_FRAMES = 960
PACKET = OpusEncoder(2, "voip").encode(np.full((PACKET_FRAMES, 2), 0.1, np.float32))
JUNK = b"\xff\xff\xff"
DTX = b""


def tuned(stable_after: float = 0, stale_gap: float = 0.08, heartbeat: float = 0.02) -> PumpTuning:
    """The specification's tuning for tests; with `stable_after` 0 every death reopens at once."""
    return PumpTuning(
        backoff_start=0.01,
        backoff_cap=0.04,
        heartbeat=heartbeat,
        stale_gap=stale_gap,
        stable_after=stable_after,
    )


class FakeMic:
    """A microphone that notes what happens to it, and dies or raises as told."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.alive_now = True
        self.raises: str | None = None  # the name of the call that raises
        self.calls: list[str] = []
        self.blocks: list[tuple[int, ...]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()  # push waits for it
        self.gate.set()

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        if self.raises == call:
            raise OSError(f"{call} fails")

    def push(self, pcm: npt.NDArray[np.float32]) -> bool:
        self._note("push")
        assert self.gate.wait(5)
        if not self.alive_now:
            return False
        assert pcm.dtype == np.float32
        assert pcm.flags.c_contiguous
        self.blocks.append(pcm.shape)
        return True

    @property
    def alive(self) -> bool:
        self._note("alive")
        return self.alive_now

    def discard(self) -> None:
        self._note("discard")

    @property
    def stats(self) -> None:
        return None

    def close(self) -> None:
        self._note("close")


class Studio:
    """Opens fake microphones, and keeps them all."""

    def __init__(self) -> None:
        self.mics: list[FakeMic] = []
        self.attempts = 0
        self.failures: list[Exception] = []  # for the next attempts
        self.failing: Exception | None = None  # for all attempts
        self.prepare: Callable[[FakeMic], None] = lambda _: None
        self.gate = threading.Event()  # an open waits for it
        self.gate.set()

    def open(self, channels: int) -> FakeMic:
        self.attempts += 1
        assert self.gate.wait(5)
        if self.failures:
            raise self.failures.pop(0)
        if self.failing is not None:
            raise self.failing
        mic = FakeMic(channels)
        self.prepare(mic)
        self.mics.append(mic)
        return mic

    @property
    def mic(self) -> FakeMic:
        """The microphone opened last."""
        return self.mics[-1]


@contextmanager
def capturing(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Give a logger one more handler, for all from its level on."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@pytest.fixture
def studio() -> Studio:
    return Studio()


@contextmanager
def pump_of(
    studio: Studio, tuning: PumpTuning | None = None
) -> Iterator[tuple[MicPump, MicSender]]:
    """A pump with a sender, started and, at the end, seen to stop."""
    with MicPump.start(studio.open, tuning or tuned()) as pump:
        with pump.sender() as sender:
            yield pump, sender
        assert pump.close()
    assert pump.stats.state == "stopped"


@contextmanager
def running_pump(
    studio: Studio, tuning: PumpTuning | None = None
) -> Iterator[tuple[MicPump, MicSender]]:
    with pump_of(studio, tuning) as (pump, sender):
        wait_until("the first open", lambda: pump.stats.state is State.RUNNING)
        yield pump, sender


def pump_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stagebox-mic-pump"]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    wait_until("every pump's thread to end", lambda: not pump_threads())


# The specification's own tests


def test_opens_eagerly_with_backoff(studio: Studio) -> None:
    studio.failures = [PipeWireUnavailable("not up yet")] * 3
    with pump_of(studio) as (pump, _):
        wait_until("the open after 3 failures", lambda: pump.stats.state is State.RUNNING)
        assert studio.attempts == 4
        assert pump.stats.open_failures == 3
        assert pump.stats.opens == 1
        assert pump.stats.packets == 0


def test_decodes_and_pushes(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        assert sender.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert studio.mic.blocks == [(PACKET_FRAMES, 2)]


def test_reopens_after_idle_death(studio: Studio) -> None:
    with running_pump(studio) as (pump, _):
        studio.mic.alive_now = False
        wait_until("the reopen", lambda: pump.stats.opens >= 2)
        assert pump.stats.packets == 0
        assert pump.stats.deaths == 1
        assert studio.mics[0].calls[-1] == "close"


def test_reopens_after_push_death(studio: Studio) -> None:
    with running_pump(studio, tuned(heartbeat=60, stale_gap=60)) as (pump, sender):
        studio.mic.alive_now = False
        sender.try_send(PACKET)
        wait_until("the reopen", lambda: pump.stats.opens == 2 and pump.stats.state == "running")
        sender.try_send(PACKET)
        wait_until("the push after it", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert studio.mics[0].calls == ["push", "close"]
        assert studio.mics[1].blocks == [(PACKET_FRAMES, 2)]


def test_rapid_death_backs_off(studio: Studio) -> None:
    def kill(mic: FakeMic) -> None:
        mic.alive_now = False

    studio.prepare = kill
    with pump_of(studio, tuned(stable_after=10)) as (pump, _):
        time.sleep(0.5)  # at one a heartbeat this would be 25 opens
        assert 2 <= pump.stats.opens <= 15


def test_discards_after_gap(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        sender.try_send(PACKET)
        wait_until("the first push", lambda: pump.stats.pushed == PACKET_FRAMES)
        before = pump.stats.discards
        time.sleep(0.15)
        sender.try_send(PACKET)
        wait_until("the push after the gap", lambda: pump.stats.pushed == 2 * PACKET_FRAMES)
        assert pump.stats.discards == before + 1
        calls = [call for call in studio.mic.calls if call != "alive"]
        assert calls[-2:] == ["discard", "push"]


def test_drains_and_drops_on_an_unsupported_platform(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    studio.failing = UnsupportedPlatform("not Linux")
    with pump_of(studio) as (pump, sender):
        wait_until("the verdict", lambda: pump.stats.state is State.UNSUPPORTED)
        for _ in range(3 * MIC_QUEUE_CAP):
            wait_until("room in the queue", lambda: sender.try_send(PACKET))
        wait_until("all dropped", lambda: pump.stats.dropped_closed == 3 * MIC_QUEUE_CAP)
        assert studio.attempts == 1
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "packets for the microphone are dropped: not Linux"
    ]


# The queue


def test_a_full_queue_drops_the_newest(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        studio.mic.gate.clear()
        sender.try_send(PACKET)
        wait_until("the push that blocks", lambda: "push" in studio.mic.calls)
        assert all(sender.try_send(PACKET) for _ in range(MIC_QUEUE_CAP))
        assert pump.stats.queued == MIC_QUEUE_CAP
        started = time.monotonic()
        assert not any(sender.try_send(PACKET) for _ in range(10))
        assert time.monotonic() - started < 0.5, "dropping must not block"
        assert pump.stats.dropped_full == 10
        studio.mic.gate.set()
        everything = (MIC_QUEUE_CAP + 1) * PACKET_FRAMES
        wait_until("all that was queued", lambda: pump.stats.pushed == everything)
        assert pump.stats.queued == 0


def test_the_bound_is_exact_with_many_senders_at_once(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        studio.mic.gate.clear()
        sender.try_send(PACKET)
        wait_until("the push that blocks", lambda: "push" in studio.mic.calls)
        accepted: list[bool] = []

        def flood() -> None:
            with sender.clone() as mine:
                accepted.extend([mine.try_send(PACKET) for _ in range(500)])

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(accepted) == MIC_QUEUE_CAP
        assert pump.stats.dropped_full == 8 * 500 - MIC_QUEUE_CAP
        studio.mic.gate.set()


def test_packets_are_dropped_while_there_is_no_microphone(studio: Studio) -> None:
    studio.failing = PipeWireUnavailable("no daemon")
    with pump_of(studio) as (pump, sender):
        wait_until("a failed open", lambda: pump.stats.open_failures)
        assert sender.try_send(PACKET)
        wait_until("the drop", lambda: pump.stats.dropped_closed == 1)


def test_what_queued_during_an_open_is_dropped(studio: Studio) -> None:
    studio.gate.clear()
    with pump_of(studio) as (pump, sender):
        wait_until("the open to begin", lambda: pump.stats.state is State.OPENING)
        assert all(sender.try_send(PACKET) for _ in range(3))
        studio.gate.set()
        wait_until("the drop", lambda: pump.stats.dropped_closed == 3)
        sender.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert pump.stats.packets == 4


def test_what_is_sent_once_the_pump_runs_is_heard(studio: Studio) -> None:
    class SendAtOnce(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 (logging calls it)
            assert pump.stats.state is State.RUNNING
            sender.try_send(PACKET)

    studio.gate.clear()
    ready = SendAtOnce(logging.INFO)
    logger = logging.getLogger("stagebox")
    with pump_of(studio) as (pump, sender), capturing(logger, ready):
        studio.gate.set()
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert pump.stats.dropped_closed == 0


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_packet_may_be_any_bytes_like_object(studio: Studio, kind: Any) -> None:
    with running_pump(studio) as (pump, sender):
        assert sender.try_send(kind(PACKET))
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)


def test_a_packet_is_copied_if_it_could_change(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        studio.mic.gate.clear()
        sender.try_send(PACKET)
        packet = bytearray(PACKET)
        sender.try_send(packet)
        packet[:] = bytes(len(packet))
        studio.mic.gate.set()
        wait_until("both", lambda: pump.stats.pushed == 2 * PACKET_FRAMES)


def test_a_packet_longer_than_a_datagram_is_refused_and_counted(studio: Studio) -> None:
    with pump_of(studio) as (pump, sender):
        assert not sender.try_send(bytes(65_536))
        assert sender.try_send(bytes(65_535))
        assert pump.stats.dropped_long == 1


class Broken(bytes):
    """Bytes that have no length."""

    def __len__(self) -> int:
        raise OSError("no length")


def test_a_packet_of_a_broken_class_does_not_stop_the_pump(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        assert sender.try_send(Broken(PACKET))
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)


@pytest.mark.parametrize("packet", [None, 5, "text", [1, 2]])
def test_a_packet_that_is_not_bytes_like_is_a_type_error(studio: Studio, packet: Any) -> None:
    with pump_of(studio) as (pump, sender):
        with pytest.raises(TypeError, match="bytes-like"):
            sender.try_send(packet)
        assert pump.stats.queued == 0


# What flows


def test_a_packet_that_will_not_decode_is_dropped_and_the_next_one_flows(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    with running_pump(studio) as (pump, sender):
        for packet in (JUNK, JUNK, JUNK, PACKET):
            sender.try_send(packet)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert pump.stats.decode_errors == 3
        assert pump.stats.opens == 1
    told = [line.getMessage() for line in caplog.records if "so far" in line.getMessage()]
    assert [line.split(" so far")[0] for line in told] == [
        "packet dropped, 1",
        "packet dropped, 2",
    ]


def test_an_empty_packet_is_silence(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        sender.try_send(DTX)
        sender.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        assert pump.stats.packets == 2
        assert pump.stats.decode_errors == 0


def test_a_death_is_noticed_though_only_silence_and_junk_arrive(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        studio.mic.alive_now = False

        def reopened_amid_noise() -> bool:
            sender.try_send(DTX)
            sender.try_send(JUNK)
            return pump.stats.opens >= 2

        wait_until("the reopen", reopened_amid_noise)


def test_the_pump_has_the_channels_asked_for(studio: Studio) -> None:
    with MicPump.start(studio.open, tuned(), channels=1) as pump, pump.sender() as sender:
        wait_until("the open", lambda: pump.stats.state is State.RUNNING)
        sender.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
    assert studio.mic.channels == 1
    assert studio.mic.blocks == [(PACKET_FRAMES, 1)]


@pytest.mark.parametrize("channels", [0, 3, 6])
def test_a_microphone_has_one_or_two_channels(studio: Studio, channels: int) -> None:
    with pytest.raises(ValueError, match=rf"channels must be one of \[1, 2\], not {channels}"):
        MicPump.start(studio.open, channels=channels)


def test_everything_about_the_microphone_happens_on_the_thread_of_the_pump(studio: Studio) -> None:
    with running_pump(studio, tuned(stale_gap=0)) as (pump, sender):
        sender.try_send(PACKET)
        wait_until("every call", lambda: {"alive", "discard", "push"} <= set(studio.mic.calls))
    assert pump.stats.state is State.STOPPED
    assert studio.mic.threads == {"stagebox-mic-pump"}


# Microphones and openers that fail in their own ways


@pytest.mark.parametrize("call", ["push", "discard", "alive"])
def test_a_microphone_that_raises_is_replaced(
    studio: Studio, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running_pump(studio, tuned(stale_gap=0)) as (pump, sender):
        studio.mic.raises = call
        sender.try_send(PACKET)
        wait_until("the reopen", lambda: pump.stats.opens == 2 and pump.stats.state == "running")
        assert pump.stats.deaths == 1
        assert "close" in studio.mics[0].calls
        pushed = pump.stats.pushed
        sender.try_send(PACKET)
        wait_until("the next push", lambda: pump.stats.pushed == pushed + PACKET_FRAMES)
    assert f"died: OSError: {call} fails" in caplog.text


def test_nothing_is_pushed_after_a_discard_that_raised(studio: Studio) -> None:
    with running_pump(studio, tuned(stale_gap=0, heartbeat=60)) as (pump, sender):
        studio.mic.raises = "discard"
        sender.try_send(PACKET)
        wait_until("the reopen", lambda: pump.stats.opens == 2)
    assert studio.mics[0].calls == ["discard", "close"]


def test_a_microphone_that_will_not_close_is_let_go(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    with running_pump(studio) as (pump, _):
        studio.mic.raises = "close"
        studio.mic.alive_now = False
        wait_until("the reopen", lambda: pump.stats.opens == 2)
    assert "closing the microphone failed" in caplog.text


@pytest.mark.parametrize("error", [OSError("busy"), ZeroDivisionError("a bug")])
def test_whatever_an_opener_raises_is_tried_again(studio: Studio, error: Exception) -> None:
    studio.failures = [error]
    with running_pump(studio) as (pump, _):
        assert pump.stats.open_failures == 1


def test_without_a_decoder_no_microphone_appears_and_it_is_tried_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_decoder(_: int) -> None:
        raise CodecError("no libopus")

    monkeypatch.setattr("stagebox.pump.OpusDecoder", no_decoder)
    with pump_of(studio) as (pump, _):
        wait_until("another attempt", lambda: pump.stats.open_failures >= 2)
        assert studio.mics == []
        assert pump.stats.opens == 0
    assert "CodecError: no libopus" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pump_whose_thread_fails_says_that_it_stopped(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_: FakeMic) -> None:
        raise SystemExit

    studio.prepare = leave
    studio.gate.clear()
    pump = MicPump.start(studio.open, tuned())
    sender = pump.sender()
    assert sender.try_send(PACKET)
    studio.gate.set()
    wait_until("the end", lambda: not pump_threads())
    assert pump.stats.state is State.STOPPED
    assert pump.stats.queued == 0
    assert not sender.try_send(PACKET)
    assert pump.close()
    assert "the pump stops: its thread failed" in caplog.text


# Who keeps it going


def test_a_closed_pump_closes_its_microphone_and_refuses_packets(studio: Studio) -> None:
    with running_pump(studio) as (_, sender):
        pass
    assert studio.mic.calls[-1] == "close"
    assert not sender.try_send(PACKET)


def test_what_was_queued_before_the_end_is_still_played(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        studio.mic.gate.clear()
        for _ in range(5):
            sender.try_send(PACKET)
        threading.Timer(0.05, studio.mic.gate.set).start()
    assert pump.stats.pushed == 5 * PACKET_FRAMES
    assert len(studio.mic.blocks) == 5


def test_a_pump_serves_the_senders_it_leaves_behind(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pump = MicPump.start(studio.open, tuned())
    sender = pump.sender()
    wait_until("the open", lambda: pump.stats.state is State.RUNNING)
    started = time.monotonic()
    assert not pump.close()
    assert time.monotonic() - started < 1, "there is nothing to wait for"
    assert "goes on for 1 sender(s)" in caplog.text
    assert sender.try_send(PACKET)
    wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
    sender.close()
    assert pump.close()


def test_a_clone_keeps_the_pump_going_alone(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        clone = sender.clone()
        sender.close()
        assert not sender.try_send(PACKET)
        assert clone.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)
        clone.close()


def test_closing_a_sender_twice_lets_go_once(studio: Studio) -> None:
    with running_pump(studio) as (pump, sender):
        other = pump.sender()
        other.close()
        other.close()
        assert sender.try_send(PACKET)
        wait_until("the push", lambda: pump.stats.pushed == PACKET_FRAMES)


def test_a_closed_handle_gives_no_more_senders(studio: Studio) -> None:
    with pump_of(studio) as (pump, sender):
        pass
    with pytest.raises(RuntimeError, match="the pump is closed"):
        pump.sender()
    with pytest.raises(RuntimeError, match="the sender is closed"):
        sender.clone()


def test_a_pump_and_senders_that_are_forgotten_stop(studio: Studio) -> None:
    pump = MicPump.start(studio.open, tuned())
    sender = pump.sender()
    clone = sender.clone()
    gone: list[weakref.ref[Any]] = [weakref.ref(pump), weakref.ref(sender), weakref.ref(clone)]
    wait_until("the open", lambda: studio.mics)
    del pump, sender
    gc.collect()
    assert pump_threads(), "a sender is still there"
    del clone
    gc.collect()
    assert all(handle() is None for handle in gone)
    wait_until("the end", lambda: not pump_threads())
    assert studio.mic.calls[-1] == "close"


def test_a_pump_can_be_closed_while_it_backs_off(studio: Studio) -> None:
    studio.failing = PipeWireUnavailable("no daemon")
    pump = MicPump.start(studio.open)  # the usual tuning: the next attempt is 2 s away
    wait_until("the first failure", lambda: pump.stats.state is State.BACKING_OFF)
    started = time.monotonic()
    assert pump.close()
    assert time.monotonic() - started < 1


def test_close_gives_up_after_its_timeout(studio: Studio) -> None:
    studio.gate.clear()
    pump = MicPump.start(studio.open, tuned())
    assert not pump.close(timeout=0.05)
    studio.gate.set()
    assert pump.close()
    assert studio.mic.calls == ["close"]


@pytest.mark.parametrize("backend", ["works", "opens forever"])
def test_the_interpreter_exits_promptly_while_a_pump_runs(backend: str) -> None:
    program = f"""
        import sys, time
        from stagebox.pump import MicPump

        class Mic:
            alive = True
            def push(self, pcm): return True
            def discard(self): pass
            def close(self): print("closed", flush=True)

        def opener(channels):
            if {backend!r} == "opens forever":
                time.sleep(60)
            return Mic()

        pump = MicPump.start(opener)
        sender = pump.sender()
        while {backend!r} == "works" and pump.stats.state != "running":
            time.sleep(0.001)
        sender.try_send(b"")
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert time.monotonic() - started < 10
    assert done.stderr == ""
    assert done.stdout == ("closed\n" if backend == "works" else "")
