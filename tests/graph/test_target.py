"""A capture of one sink, which is unplugged, comes back, and is never taken for another."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from stagebox import (
    SAMPLE_RATE,
    AudioCapturer,
    CaptureClosed,
    CaptureDied,
    Chunk,
    open_audio_capture,
)
from stagebox.graph import Graph
from tests.conftest import wait_until
from tests.footprint import Footprint
from tests.graph.conftest import Listener, joined

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from stagebox.testing import PrivateGraph
    from tests.graph.conftest import Applications

    Rounds = Callable[[int, int], int]
    Figure = Callable[[str], None]

TARGET: Final = "headset"
OURS: Final = np.float32(0.25)
"""What plays into the target: a constant, exactly."""
LOUD: Final = np.float32(0.75)
"""What plays into the other sink, the default while the target is away."""
MEBIBYTE_KIB: Final = 1024


def end(player: subprocess.Popen[bytes]) -> None:
    player.kill()
    player.wait()


def wait_until_heard(listener: Listener, level: np.float32) -> None:
    """Wait until what is captured from now on ends with a level."""
    begin = len(listener.chunks)

    def is_heard() -> bool:
        return any(chunk.pcm[-1, 0] == level for chunk in listener.chunks[begin:])

    wait_until(f"a level of {level}", is_heard)


def wait_until_away(capture: AudioCapturer, graph: PrivateGraph) -> None:
    wait_until("it to wait", lambda: capture.stats.state == "idle")
    wait_until("its node's end", lambda: "stagebox-capture" not in graph.node_names())


@pytest.fixture
def loud_default(private_graph: PrivateGraph, applications: Applications) -> None:
    """The other sink plays loudly, and is the default while the target is not there."""
    applications.play_level(private_graph.sink, LOUD)


@pytest.mark.usefixtures("loud_default")
def test_while_its_target_is_unplugged_a_capture_waits_and_hears_nothing(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(TARGET)
    private_graph.configure_default("sink", TARGET)
    applications.play_level(TARGET, OURS)
    default = Listener(open_audio_capture(remote=private_graph.remote))
    with open_audio_capture(target=TARGET, remote=private_graph.remote) as capture:
        wait_until("sound", lambda: OURS in capture.next_chunk().pcm)
        private_graph.remove(TARGET)
        wait_until_heard(default, LOUD)  # where the session manager moves who may be moved
        wait_until("it to wait", lambda: capture.stats.state == "idle")
        left: list[Chunk] = []

        def is_quiet() -> bool:
            left.append(capture.next_chunk(timeout=0.3))
            return not left[-1]

        wait_until("the end of what had come", is_quiet)
        assert set(np.unique(joined(left))) <= {0, OURS}
        assert capture.stats.state == "idle"
    default.stop()


def test_a_sink_of_the_graphs_is_a_target_too(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(TARGET)
    applications.play_level(TARGET, OURS)
    applications.play_level(private_graph.sink, LOUD)
    with Graph(remote=private_graph.remote) as graph:
        (sink,) = (sink for sink in graph.sinks() if sink.name == TARGET)
    with open_audio_capture(target=sink, remote=private_graph.remote) as capture:
        wait_until("sound", lambda: OURS in capture.next_chunk().pcm)
        assert LOUD not in capture.next_chunk().pcm
    private_graph.remove(TARGET)
    with pytest.raises(ValueError, match=f"no sink with node.name '{TARGET}'"):
        open_audio_capture(target=sink, remote=private_graph.remote)


@pytest.mark.usefixtures("loud_default")
def test_a_sink_that_comes_and_goes_is_heard_and_no_other_and_costs_nothing(
    private_graph: PrivateGraph, applications: Applications, rounds: Rounds, figure: Figure
) -> None:
    private_graph.add_sink(TARGET)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    listener = Listener(capture)
    before: Footprint | None = None
    returns_s: list[float] = []
    for _ in range(rounds(10, 100)):
        player = applications.play_level(TARGET, OURS)
        wait_until_heard(listener, OURS)
        assert set(np.unique(listener.pcm())) <= {0, OURS}
        listener.chunks.clear()
        private_graph.remove(TARGET)
        wait_until_away(capture, private_graph)
        end(player)
        before = before or Footprint.now()
        begin = time.monotonic()
        private_graph.add_sink(TARGET)
        wait_until("its return", lambda: capture.stats.state == "streaming")
        returns_s.append(time.monotonic() - begin)
    private_graph.remove(TARGET)
    wait_until_away(capture, private_graph)
    assert before is not None
    grown_kib = before.assert_grown_by_at_most(MEBIBYTE_KIB)
    stats = capture.stats
    assert set(np.unique(listener.stop())) <= {0, OURS}
    assert stats.missed > SAMPLE_RATE // 100 * len(returns_s)
    figure(
        f"{len(returns_s)} returns, streaming again {max(returns_s) * 1000:.0f} ms after the "
        f"sink's making at most; {grown_kib:+} KiB, no thread or descriptor more"
    )


def test_the_time_in_which_the_target_is_away_is_missed_and_time_stamps_jump(
    private_graph: PrivateGraph,
) -> None:
    private_graph.add_sink(TARGET)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    listener = Listener(capture)
    wait_until("quanta", lambda: len(listener.chunks) > 10)
    private_graph.remove(TARGET)
    wait_until_away(capture, private_graph)
    away = len(listener.chunks)
    before = capture.stats
    private_graph.add_sink(TARGET)
    wait_until("quanta", lambda: len(listener.chunks) > away + 10)
    stats = capture.stats
    listener.stop()
    last, first = listener.chunks[away - 1 : away + 1]
    gap_frames = (first.time_ns - last.time_ns) * SAMPLE_RATE / 1_000_000_000 - len(last)
    assert gap_frames > SAMPLE_RATE // 100
    assert stats.missed - before.missed >= gap_frames - 1
    assert stats.lost == 0


@pytest.mark.usefixtures("loud_default")
def test_two_captures_of_one_sink_and_one_of_the_default_go_each_their_way(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.configure_default("sink", private_graph.sink)
    private_graph.add_sink(TARGET)
    remote = private_graph.remote
    first, second, default = (
        Listener(open_audio_capture(target=target, remote=remote))
        for target in (TARGET, TARGET, None)
    )
    for _ in range(2):
        applications.play_level(TARGET, OURS)
        wait_until_heard(first, OURS)
        wait_until_heard(second, OURS)
        wait_until_heard(default, LOUD)
        private_graph.remove(TARGET)
        private_graph.add_sink(TARGET)
    for listener in (first, second):
        assert set(np.unique(listener.stop())) <= {0, OURS}
    assert OURS not in np.unique(default.stop())


@pytest.mark.usefixtures("loud_default")
def test_a_capture_of_one_sink_outlives_the_session_manager(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(TARGET)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    listener = Listener(capture)
    for _ in range(3):
        applications.play_level(TARGET, OURS)
        wait_until_heard(listener, OURS)
        # An application that was there before may keep WirePlumber 0.4 from linking anything.
        applications.stop()
        private_graph.restart_manager()
        wait_until("its return", lambda: capture.stats.state == "streaming")
        applications.play_level(private_graph.sink, LOUD)
    assert set(np.unique(listener.stop())) <= {0, OURS}


@pytest.mark.usefixtures("loud_default")
def test_a_capture_whose_sink_is_away_outlives_the_session_manager(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(TARGET)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    listener = Listener(capture)
    for _ in range(2):
        applications.play_level(TARGET, OURS)
        wait_until_heard(listener, OURS)
        private_graph.remove(TARGET)
        wait_until_away(capture, private_graph)
        applications.stop()
        private_graph.restart_manager()
        applications.play_level(private_graph.sink, LOUD)
        assert capture.stats.state == "idle"
        private_graph.add_sink(TARGET)
    applications.play_level(TARGET, OURS)
    wait_until_heard(listener, OURS)
    assert set(np.unique(listener.stop())) <= {0, OURS}


@pytest.mark.usefixtures("loud_default")
def test_a_node_that_the_session_manager_destroys_comes_again(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(TARGET)
    applications.play_level(TARGET, OURS)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    listener = Listener(capture)
    for _ in range(3):
        wait_until_heard(listener, OURS)
        private_graph.remove("stagebox-capture")
    wait_until_heard(listener, OURS)
    assert set(np.unique(listener.stop())) <= {0, OURS}


def test_the_daemons_end_is_a_death_also_while_the_target_is_away(
    private_graph: PrivateGraph,
) -> None:
    private_graph.add_sink(TARGET)
    capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
    private_graph.remove(TARGET)
    wait_until_away(capture, private_graph)
    capture.drain()
    killed_at = time.monotonic()
    private_graph.kill()
    with pytest.raises(CaptureDied, match="gone"):
        capture.next_chunk()
    assert time.monotonic() - killed_at < 1
    assert capture.stats.state == "dead"


def test_a_close_while_the_target_is_away_ends_it_and_leaves_nothing(
    private_graph: PrivateGraph,
) -> None:
    def cycle() -> None:
        private_graph.add_sink(TARGET)
        capture = open_audio_capture(target=TARGET, remote=private_graph.remote)
        private_graph.remove(TARGET)
        wait_until_away(capture, private_graph)
        listener = Listener(capture)
        begin = time.monotonic()
        listener.stop()
        assert time.monotonic() - begin < 1
        with pytest.raises(CaptureClosed):
            capture.next_chunk()

    cycle()
    gc.collect()
    before = Footprint.now()
    for _ in range(3):
        cycle()
    before.assert_grown_by_at_most(MEBIBYTE_KIB)
    private_graph.add_sink(TARGET)
    assert "stagebox-capture" not in private_graph.node_names()


def test_closes_amid_returns_of_the_target_leave_nothing(private_graph: PrivateGraph) -> None:
    before: Footprint | None = None
    for _ in range(6):
        private_graph.add_sink(TARGET)
        captures = [
            open_audio_capture(target=TARGET, remote=private_graph.remote) for _ in range(8)
        ]
        private_graph.remove(TARGET)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(private_graph.add_sink, TARGET)
            for capture in captures:
                capture.close()
            coming.result()
        private_graph.remove(TARGET)
        assert "stagebox-capture" not in private_graph.node_names()
        del captures, capture
        before = before or Footprint.now()
    assert before is not None
    before.assert_grown_by_at_most(8 * MEBIBYTE_KIB)  # a fraction of what 40 captures take
