"""A daemon, a session manager and sinks that come and go, again and again, under a whole host."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pytest

from stagebox import (
    PUMP_TUNING,
    SAMPLE_RATE,
    AudioCapturer,
    CaptureDied,
    Chunk,
    MicPump,
    OpusEncoder,
    PipeWireUnavailable,
    PumpTuning,
    _native,
    open_audio_capture,
    open_virtual_mic,
)
from tests.conftest import wait_until
from tests.footprint import Footprint
from tests.graph.conftest import Applications, heard, ramp, recorded_mic, tone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stagebox.mic import PipeWireMic
    from stagebox.testing import PrivateGraph

    Rounds = Callable[[int, int], int]
    Figure = Callable[[str], None]

QUICK: Final = PumpTuning(0.05, 0.2, 0.1, 0.6, 0.0)
BLOCK: Final = np.full((480, 2), 0.25, np.float32)
MEBIBYTE_KIB: Final = 1024
SCHEDULING_S: Final = 0.5
"""What a thread of ours may be late on a shared machine."""


# --- a host --------------------------------------------------------------------------------------


class Traffic:
    """A tone as 20 ms packets, at the rate of real time, for as long as the block lasts."""

    def __init__(self, pump: MicPump) -> None:
        encoder = OpusEncoder(2, "voip", 64_000)
        pcm = tone(440, 0.5)
        self._packets = [encoder.encode(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]
        self._pump = pump
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._pump.sender() as sender:
            while not self._over.wait(0.02):
                sender.try_send(self._packets[0])
                self._packets.append(self._packets.pop(0))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


class Opener:
    """Opens the pump's microphones, and keeps the last one and how long it took."""

    def __init__(self, remote: str) -> None:
        self._remote = remote
        self.mic: PipeWireMic | None = None
        self.took_s = 0.0

    def __call__(self, channels: int) -> PipeWireMic:
        begin = time.monotonic()
        self.mic = open_virtual_mic(channels, name="pumped", remote=self._remote)
        self.took_s = time.monotonic() - begin
        return self.mic


class Reader:
    """A thread that reads a capture until it dies, and when that was."""

    def __init__(self, capture: AudioCapturer) -> None:
        self._capture = capture
        self.died_at = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._capture.next_chunk()
        except CaptureDied:
            self.died_at = time.monotonic()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def seconds_until_all_dead(graph: PrivateGraph, pump: MicPump) -> float:
    """Open a capture and two microphones, kill the daemon, and see how soon each says so."""
    with (
        open_audio_capture(remote=graph.remote) as capture,
        open_virtual_mic(name="first", remote=graph.remote) as first,
        open_virtual_mic(name="second", remote=graph.remote) as second,
    ):
        reader = Reader(capture)
        assert first.push(BLOCK)
        deaths = pump.stats.deaths
        killed_at = time.monotonic()
        graph.processes[1].kill()
        wait_until("the idle microphone's death", lambda: not second.alive)
        wait_until("the pushed microphone's death", lambda: not first.push(BLOCK))
        wait_until("the pump's to be noticed", lambda: pump.stats.deaths > deaths)
        noticed_at = time.monotonic()
        reader.join()
    graph.kill()
    return max(noticed_at, reader.died_at) - killed_at


def wait_until_played(mic: PipeWireMic, frames: int) -> None:
    """Wait until a recorder has fetched that many more frames of sound."""
    goal = mic.stats.played + frames
    wait_until("sound to be fetched", lambda: mic.stats.played >= goal)


def push_until_played(mic: PipeWireMic, frames: int) -> None:
    """Push in real time until a recorder has fetched that many more frames, or it dies."""
    goal = mic.stats.played + frames

    def is_played() -> bool:
        time.sleep(len(BLOCK) / SAMPLE_RATE)
        return not mic.push(BLOCK) or mic.stats.played >= goal

    wait_until("sound to be fetched", is_played)


def wait_until_heard(applications: Applications, opener: Opener) -> None:
    """Record the pump's microphone until the traffic's tone is in a recording.

    On a busy machine pw-record, which is not real-time, may end before it saw what was fetched.
    """

    def is_heard() -> bool:
        assert opener.mic is not None
        with applications.recording("pumped") as recorded:
            wait_until_played(opener.mic, SAMPLE_RATE // 5)
        return float(np.abs(recorded[0]).max(initial=0)) > 0.3

    wait_until("the tone in a recording", is_heard)


@pytest.fixture
def log_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pytest not keep what is logged: it would be measured as if it were the host's."""
    monkeypatch.setattr(logging.getLogger("stagebox"), "propagate", False)


@pytest.mark.usefixtures("log_not_kept")
@pytest.mark.parametrize(
    ("tuning", "few", "many"),
    [pytest.param(QUICK, 3, 100, id="quick"), pytest.param(PUMP_TUNING, 1, 100, id="real")],
)
def test_a_host_outlives_its_daemons_and_ends_as_small_as_it_was(
    private_graph: PrivateGraph,
    applications: Applications,
    rounds: Rounds,
    figure: Figure,
    tuning: PumpTuning,
    few: int,
    many: int,
) -> None:
    seed = random.randrange(1 << 32)
    pauses = random.Random(seed)
    opener = Opener(private_graph.remote)
    deaths_s: list[float] = []
    returns_s: list[float] = []
    first: Footprint | None = None
    with MicPump.start(opener, tuning) as pump, Traffic(pump):
        wait_until("the pump's microphone", lambda: pump.stats.state == "running")
        for _ in range(rounds(few, many)):
            time.sleep(tuning.stable_after)  # or the death would count as a failed open
            deaths_s.append(seconds_until_all_dead(private_graph, pump))
            time.sleep(pauses.uniform(0, 2))
            private_graph.restart()
            back_at = time.monotonic()
            wait_until("another microphone", lambda: pump.stats.opens > len(deaths_s))
            returns_s.append(time.monotonic() - back_at)
            wait_until_heard(applications, opener)
            # until then it holds descriptors for the link
            wait_until(
                "the recorder's end", lambda: opener.mic and opener.mic.stats.state == "idle"
            )
            first = first or Footprint.now()
            assert deaths_s[-1] < 1, f"seed {seed}"
            limit_s = tuning.heartbeat + opener.took_s + SCHEDULING_S
            assert returns_s[-1] < limit_s, f"seed {seed}"
        assert first is not None
        grown_kib = first.assert_grown_by_at_most(MEBIBYTE_KIB)
    figure(
        f"{len(deaths_s)} kills: deaths seen within {max(deaths_s) * 1000:.0f} ms, microphone back "
        f"within {max(returns_s) * 1000:.0f} ms; {grown_kib:+} KiB, no thread or descriptor more"
    )


# --- a daemon that stands still ------------------------------------------------------------------


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def slowest_s(*calls: Callable[[], object]) -> float:
    """How long the slowest of some calls took."""
    times = [time.monotonic()]
    for call in calls:
        call()
        times.append(time.monotonic())
    return max(np.diff(times))


def test_while_the_daemon_stands_still_no_call_waits_for_it(
    private_graph: PrivateGraph, applications: Applications, rounds: Rounds, figure: Figure
) -> None:
    daemon = private_graph.processes[1]
    opener = Opener(private_graph.remote)
    longest_s = 0.0
    with (
        open_audio_capture(remote=private_graph.remote) as capture,
        recorded_mic(applications) as (mic, _),
        MicPump.start(opener, PUMP_TUNING) as pump,
        Traffic(pump),
    ):
        wait_until("the pump's microphone", lambda: opener.mic is not None)
        other_capture = open_audio_capture(remote=private_graph.remote)
        other_mic = open_virtual_mic(name="other", remote=private_graph.remote)
        capture.next_chunk()
        with stopped(daemon):
            until = time.monotonic() + rounds(2, 10)
            while time.monotonic() < until:
                longest_s = max(
                    longest_s,
                    slowest_s(
                        lambda: mic.push(BLOCK),
                        mic.discard,
                        lambda: mic.alive,
                        lambda: mic.stats,
                        lambda: capture.next_chunk(timeout=0.05),
                        capture.drain,
                        lambda: capture.stats,
                    ),
                )
            closing_s = slowest_s(other_capture.close, other_mic.close)
            assert mic.alive
            assert pump.stats.deaths == 0
        assert capture.next_chunk()
        push_until_played(mic, SAMPLE_RATE // 10)
        wait_until_heard(applications, opener)
        wait_until("the closed ones' end", lambda: "other" not in private_graph.node_names())
    assert longest_s < 0.05 + SCHEDULING_S
    assert closing_s < 2
    figure(f"slowest call {longest_s * 1000:.0f} ms (a wait of 50 ms), close {closing_s:.3f} s")


def test_many_closes_and_a_fork_do_not_queue_up_behind_a_daemon_that_stands_still(
    private_graph: PrivateGraph,
) -> None:
    captures = [open_audio_capture(remote=private_graph.remote) for _ in range(16)]
    with stopped(private_graph.processes[1]), ThreadPoolExecutor(16) as pool:
        begin = time.monotonic()
        closes = [pool.submit(capture.close) for capture in captures]
        with warnings.catch_warnings(action="ignore"):  # a fork amid threads, which this is about
            child = os.fork()
        if child == 0:
            os._exit(0)
        for close in closes:
            close.result()
        assert time.monotonic() - begin < 2 * SCHEDULING_S
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("opener", "begun"),
    [
        pytest.param(open_audio_capture, False, id="before the handshake"),
        pytest.param(open_virtual_mic, True, id="after it"),
    ],
)
def test_an_open_of_a_daemon_that_stands_still_times_out_and_leaves_nothing(
    private_graph: PrivateGraph,
    monkeypatch: pytest.MonkeyPatch,
    opener: Callable[..., PipeWireMic | AudioCapturer],
    begun: bool,
) -> None:
    daemon = private_graph.processes[1]
    sync = _native.Connection.sync

    def sync_then_stop(connection: _native.Connection, deadline: _native.Deadline) -> None:
        sync(connection, deadline)
        os.kill(daemon.pid, signal.SIGSTOP)

    before, nodes = Footprint.now(), private_graph.node_names()
    if begun:
        monkeypatch.setattr(_native.Connection, "sync", sync_then_stop)
    else:
        os.kill(daemon.pid, signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(PipeWireUnavailable, match=r"in(?: |)5 s"):
        opener(remote=private_graph.remote)
    took_s = time.monotonic() - begin
    os.kill(daemon.pid, signal.SIGCONT)
    monkeypatch.undo()
    assert 4.9 < took_s < 5 + SCHEDULING_S
    wait_until("the end of what was begun", lambda: private_graph.node_names() == nodes)
    before.assert_grown_by_at_most(MEBIBYTE_KIB)
    opener(remote=private_graph.remote).close()


# --- the session manager, and sinks --------------------------------------------------------------

LEVELS: Final = {"stagebox-sink": np.float32(0.25), "second": np.float32(0.5)}
"""What plays into which sink: a constant, exactly; the source plays a tone instead."""


def until_heard(capture: AudioCapturer, level: np.float32) -> list[Chunk]:
    """The chunks up to the first that ends with a level."""
    chunks: list[Chunk] = []

    def is_heard() -> bool:
        chunks.append(capture.next_chunk(timeout=0.2))
        return bool(chunks[-1]) and chunks[-1].pcm[-1, 0] == level

    wait_until(f"a level of {level}", is_heard)
    return chunks


def test_a_capture_and_a_microphone_outlive_the_session_manager(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with (
        open_audio_capture(remote=private_graph.remote) as capture,
        open_virtual_mic(remote=private_graph.remote) as mic,
    ):
        for _ in range(2):
            # The player comes after the manager: WirePlumber 0.4 waits for ever for a node of
            # another program that was there before, and links nothing meanwhile.
            player = applications.play_level("stagebox-sink", LEVELS["stagebox-sink"])
            until_heard(capture, LEVELS["stagebox-sink"])
            with applications.recording() as recorded:
                push_until_played(mic, SAMPLE_RATE // 5)
            assert np.abs(recorded[0]).max() == BLOCK[0, 0]
            player.kill()
            player.wait()
            private_graph.restart_manager()
            capture.drain()


def test_a_capture_follows_the_default_sink_and_never_records_a_source(
    private_graph: PrivateGraph, applications: Applications, rounds: Rounds, figure: Figure
) -> None:
    private_graph.add_source("line-in")
    private_graph.add_sink("second")
    private_graph.configure_default("sink", "stagebox-sink")
    for sink in LEVELS:
        applications.play_level(sink, LEVELS[sink])
    changes = rounds(5, 50)
    with open_audio_capture(remote=private_graph.remote) as capture:
        chunks = until_heard(capture, LEVELS["stagebox-sink"])
        for change in range(changes):
            name = ("second", "stagebox-sink")[change % 2]
            private_graph.configure_default("sink", name)
            chunks += until_heard(capture, LEVELS[name])
        stats = capture.stats
    chunks = [chunk for chunk in chunks if chunk]
    levels = np.unique(np.concatenate([chunk.pcm for chunk in chunks]))
    assert set(levels) <= {np.float32(0), *LEVELS.values()}
    elapsed = (chunks[-1].time_ns - chunks[0].time_ns) * SAMPLE_RATE // 1_000_000_000
    accounted = sum(map(len, chunks[:-1])) + stats.lost + stats.missed
    figure(
        f"{changes} changes: {elapsed} frames of time, {accounted} of them captured or counted "
        f"({stats.lost} lost, {stats.missed} missed)"
    )
    assert stats.missed > 0
    assert abs(accounted - elapsed) <= changes * max(map(len, chunks))


def test_a_capture_waits_for_another_sink_when_the_only_one_is_removed(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_source("line-in")
    applications.play_level("stagebox-sink", LEVELS["stagebox-sink"])
    with open_audio_capture(remote=private_graph.remote) as capture:
        chunks = until_heard(capture, LEVELS["stagebox-sink"])
        private_graph.remove("stagebox-sink")
        private_graph.add_sink("second")
        applications.play_level("second", LEVELS["second"])
        chunks += until_heard(capture, LEVELS["second"])
        stats = capture.stats
    levels = np.unique(np.concatenate([chunk.pcm for chunk in chunks]))
    assert set(levels) <= {np.float32(0), *LEVELS.values()}
    assert stats.missed > 0


# --- a recorder that comes and goes --------------------------------------------------------------


class Counter:
    """Pushes a ramp into a microphone in real time, 10 ms at a time."""

    def __init__(self, mic: PipeWireMic, seconds: int) -> None:
        self._mic = mic
        self._pcm = ramp(seconds * SAMPLE_RATE, 2)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.pushed = 0

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._over.wait(max(0, begin + self.pushed / SAMPLE_RATE - time.monotonic())):
            self._mic.push(self._pcm[self.pushed : self.pushed + 480])
            self.pushed += 480

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_recorder_that_comes_and_goes_hears_nothing_stale_and_costs_nothing(
    private_graph: PrivateGraph, applications: Applications, rounds: Rounds, figure: Figure
) -> None:
    oldest = 0
    before: Footprint | None = None
    with open_virtual_mic(remote=private_graph.remote) as mic, Counter(mic, 170) as counter:
        for _ in range(rounds(3, 50)):
            begun_at = counter.pushed
            with applications.recording() as recorded:
                wait_until_played(mic, SAMPLE_RATE // 5)
            frames = heard(recorded[0])
            assert (np.diff(frames) > 0).all()
            oldest = max(oldest, begun_at - frames[0])
            before = before or Footprint.now()
        assert before is not None
        grown_kib = before.assert_grown_by_at_most(MEBIBYTE_KIB)
    figure(
        f"oldest frame heard: {oldest / SAMPLE_RATE * 1000:.0f} ms older than its recorder; "
        f"{grown_kib:+} KiB"
    )
    assert oldest <= SAMPLE_RATE


# --- a daemon that comes later -------------------------------------------------------------------


def test_a_daemon_that_comes_late_finds_the_pump_waiting_and_its_log_short(
    private_graph: PrivateGraph, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    private_graph.kill()
    opener = Opener(private_graph.remote)
    attempts = rounds(20, 200)
    with caplog.at_level(logging.DEBUG, "stagebox"), MicPump.start(opener, QUICK) as pump:
        wait_until("attempts", lambda: pump.stats.open_failures >= attempts, timeout=60)
        told = len(caplog.records)
        private_graph.restart()
        wait_until("the microphone", lambda: "pumped" in private_graph.node_names(), timeout=2)
    assert 0 < told <= attempts.bit_length() + 1  # the 1st, 2nd, 4th, 8th … time


# --- what others may do to our nodes -------------------------------------------------------------


def pw_cli(graph: PrivateGraph, command: str) -> None:
    subprocess.run(["pw-cli", command], env=graph.env, check=True, timeout=10)


def ids(graph: PrivateGraph, name: str) -> tuple[int, int]:
    """A node's id, and its client's."""
    for entry in graph.dump():
        properties = (entry.get("info") or {}).get("props") or {}
        if properties.get("node.name") == name:
            return entry["id"], properties["client.id"]
    raise KeyError(name)


def test_a_client_that_is_destroyed_is_a_death(private_graph: PrivateGraph) -> None:
    with (
        open_virtual_mic(remote=private_graph.remote) as mic,
        open_audio_capture(remote=private_graph.remote) as capture,
    ):
        _, client = ids(private_graph, "stagebox-mic")
        pw_cli(private_graph, f"destroy {client}")
        assert wait_until("death", lambda: not mic.alive) < 1
        assert not mic.push(BLOCK)
        capture.drain()
        with pytest.raises(CaptureDied):
            capture.next_chunk(timeout=1)


@pytest.mark.parametrize("target", [None, "stagebox-sink"])
def test_revoked_permissions_are_a_death_or_change_nothing_but_are_never_silence(
    private_graph: PrivateGraph, applications: Applications, target: str | None
) -> None:
    applications.play_level("stagebox-sink", LEVELS["stagebox-sink"])
    with (
        recorded_mic(applications) as (mic, _),
        open_audio_capture(target=target, remote=private_graph.remote) as capture,
    ):
        until_heard(capture, LEVELS["stagebox-sink"])
        mic_id, client = ids(private_graph, "stagebox-mic")
        capture_id, _ = ids(private_graph, "stagebox-capture")
        for objects in (f"{mic_id}", f"{capture_id}", "0", "-1"):
            pw_cli(private_graph, f"permissions {client} {objects} 0")
        push_until_played(mic, SAMPLE_RATE // 10)
        try:
            capture.drain()
            until_heard(capture, LEVELS["stagebox-sink"])
        except CaptureDied:
            assert not mic.alive
