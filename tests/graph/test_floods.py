"""Junk and floods into a real microphone: what is bounded, and how soon all is well again."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import MIC_QUEUE_CAP, SAMPLE_RATE, MicPump, OpusEncoder, open_virtual_mic
from tests.conftest import wait_until
from tests.footprint import Footprint
from tests.graph.conftest import Applications, wait_for_recorder
from tests.packets import PACKET_FRAMES, Junk, encoded, sine, strength

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stagebox import MicSender
    from stagebox.mic import PipeWireMic
    from tests.packets import Pcm

pytestmark = pytest.mark.alone

SEED = 20_261_122
SENDERS = 8
FLOOD_HZ, NORMAL_HZ = 300.0, 1000.0
WINDOW_FRAMES = 480  # whole periods of both
GROWTH_KIB = 1024


def tone_packets(hz: float, count: int, packet_frames: int = PACKET_FRAMES) -> list[bytes]:
    encoder = OpusEncoder(2, "audio", 96_000)
    return encoded(sine(count * packet_frames, hz=hz), encoder, packet_frames)


RECOVERY_S = 0.7
NORMAL = tone_packets(NORMAL_HZ, 35)
# The longest there are among them: they make the microphone hold back most.
FLOOD = [*tone_packets(FLOOD_HZ, 15), *tone_packets(FLOOD_HZ, 1, 5760)]


@contextmanager
def open_pump(applications: Applications) -> Iterator[tuple[MicPump, PipeWireMic]]:
    """A pump, and the one microphone that it opens."""
    mics: list[PipeWireMic] = []

    def opener(channels: int) -> PipeWireMic:
        mics.append(open_virtual_mic(channels, remote=applications.remote))
        return mics[-1]

    with MicPump.start(opener) as pump:
        wait_until("the microphone", lambda: pump.stats.state == "running")
        yield pump, mics[0]
        assert len(mics) == 1, "it lived"


def speak_normally(sender: MicSender) -> None:
    """A packet every 20 ms, as a client sends them, until the recovery must be over."""
    begin = time.monotonic()
    for number, packet in enumerate(NORMAL):
        sender.try_send(packet)
        time.sleep(max(0, begin + (number + 1) * 0.02 - time.monotonic()))


def seconds_of_normal_sound(pcm: Pcm) -> float:
    """How long before its end normal traffic began to be heard in a recording; 0: it was not."""
    windows = [
        abs(strength(pcm[begin : begin + WINDOW_FRAMES], NORMAL_HZ) - 1) < 0.2
        for begin in range(0, len(pcm) - WINDOW_FRAMES, WINDOW_FRAMES)
    ]
    for number in range(len(windows) - 5):
        if all(windows[number : number + 5]):  # 50 ms that are nothing else
            return (len(pcm) - number * WINDOW_FRAMES) / SAMPLE_RATE
    return 0.0


# --- junk ----------------------------------------------------------------------------------------


def test_junk_leaves_a_real_microphone_as_it_was(
    applications: Applications, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    junk = Junk(SEED)
    count = rounds(2000, 100_000)
    with open_pump(applications) as (pump, mic), pump.sender() as sender:

        def send(packets: Iterator[bytes]) -> None:
            while burst := list(itertools.islice(packets, MIC_QUEUE_CAP // 2)):
                assert all(map(sender.try_send, burst))
                while pump.stats.queued:
                    time.sleep(0.0002)

        with applications.recording() as recorded:
            wait_for_recorder(mic)
            send(junk.packets(1000))
            before = Footprint.now()
            send(junk.packets(count))
            grown = before.assert_grown_by_at_most(GROWTH_KIB)
            speak_normally(sender)
            wait_until("the end", lambda: mic.stats.depth == 0)
            mic_stats, pump_stats = mic.stats, pump.stats
    assert pump_stats.dropped_full == pump_stats.dropped_closed == pump_stats.deaths == 0
    assert pump_stats.packets == 1000 + count + len(NORMAL)
    assert mic_stats.pushed == pump_stats.pushed
    assert np.abs(recorded[0]).max() <= 1, f"seed {SEED}"
    assert seconds_of_normal_sound(recorded[0]) > 0, f"seed {SEED}"
    figure(f"{count} packets of junk into a real microphone, {grown:+} KiB")


# --- floods --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Flood:
    """Some senders at once, each in a thread of its own."""

    pump: MicPump
    packets_per_s: int | None  # of all together; None: as many as they can
    seconds: float
    attempts: int = 0
    took_s: float = 0.0
    longest_batch_s: float = 0.0
    most_queued: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, meanwhile: Callable[[], object]) -> None:
        threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.most_queued = max(self.most_queued, self.pump.stats.queued)
            meanwhile()
            time.sleep(0.01)
        self.took_s = time.monotonic() - begin

    def _send(self) -> None:
        packets = itertools.cycle(FLOOD)
        sent, longest_s = 0, 0.0
        with self.pump.sender() as sender:
            begin = time.monotonic()
            while (elapsed_s := time.monotonic() - begin) < self.seconds:
                due = self._due(elapsed_s, sent)
                if due:
                    before = time.monotonic()
                    deque(map(sender.try_send, itertools.islice(packets, due)), maxlen=0)
                    longest_s = max(longest_s, time.monotonic() - before)
                    sent += due
                if self.packets_per_s is not None:
                    time.sleep(0.001)
        with self._lock:
            self.attempts += sent
            self.longest_batch_s = max(self.longest_batch_s, longest_s)

    def _due(self, elapsed_s: float, sent: int) -> int:
        if self.packets_per_s is None:
            return 10
        return int(elapsed_s * self.packets_per_s / SENDERS) - sent


def pump_cpu_s() -> float:
    """Processor time that the pump's thread has used."""
    [thread] = [t for t in threading.enumerate() if t.name == "stagebox-mic-pump"]
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


@pytest.mark.parametrize("packets_per_s", [100_000, None])
def test_a_flood_is_bounded_in_everything_and_normal_traffic_sounds_soon_after(
    applications: Applications,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
    packets_per_s: int | None,
) -> None:
    deepest = 0

    def look() -> None:
        nonlocal deepest
        deepest = max(deepest, mic.stats.depth)

    with open_pump(applications) as (pump, mic), pump.sender() as sender:
        with applications.recording() as recorded:
            wait_for_recorder(mic)
            Flood(pump, packets_per_s, 0.2).run(lambda: None)
            wait_until("the queue to be empty", lambda: not pump.stats.queued)
            before, packets_before = Footprint.now(), pump.stats
            cpu_before_s = pump_cpu_s()
            flood = Flood(pump, packets_per_s, rounds(1, 10))
            flood.run(meanwhile=look)
            cpu_ended_s = pump_cpu_s()
            # Nothing is waited for: the queue and the ring are as full as the flood left them.
            speaks_at = time.monotonic()
            speak_normally(sender)
            cpu_after_s, stats = pump_cpu_s() - cpu_ended_s, pump.stats
            grown = before.assert_grown_by_at_most(GROWTH_KIB)
        recorded_until = time.monotonic()
    heard_s = seconds_of_normal_sound(recorded[0])
    assert heard_s > 0
    delay_s = recorded_until - heard_s - speaks_at  # at most: the recorder may have ended earlier
    assert delay_s < RECOVERY_S

    handled = stats.packets - packets_before.packets
    refused = stats.dropped_full - packets_before.dropped_full
    assert handled + refused + stats.queued == flood.attempts + len(NORMAL)
    assert flood.most_queued <= MIC_QUEUE_CAP
    assert cpu_after_s < 0.25 * RECOVERY_S
    assert stats.deaths == stats.decode_errors == 0
    figure(
        f"{flood.attempts / flood.took_s:,.0f} packets/s for {flood.took_s:.1f} s: {handled} "
        f"decoded, {refused} refused; at most {flood.most_queued} queued and {deepest} frames in "
        f"the ring; {grown:+} KiB; pump's thread {(cpu_ended_s - cpu_before_s) / flood.took_s:.0%} "
        f"of a core; longest batch of try_send {flood.longest_batch_s * 1000:.0f} ms; normal "
        f"traffic heard at the latest {delay_s * 1000:.0f} ms after it began"
    )
