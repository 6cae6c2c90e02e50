"""Desktop out, on a real daemon."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

import stagebox
from stagebox import SAMPLE_RATE, CaptureClosed, Chunk, open_audio_capture
from stagebox.testing import PrivateGraph
from tests.conftest import untraced, wait_until
from tests.graph.conftest import (
    STEADY_FRAMES,
    Applications,
    Listener,
    followed_by_silence,
    heard,
    joined,
    longest_sound,
    loudest_hz,
    ramp,
    tone,
    undisturbed,
)

if TYPE_CHECKING:
    from pathlib import Path


# --- what is heard ---------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "seconds"), [(2, 10), (6, 3), (8, 3)])
@pytest.mark.alone
def test_a_ramp_arrives_whole(
    private_graph: PrivateGraph, applications: Applications, channels: int, seconds: int
) -> None:
    private_graph.add_sink("wide", channels)
    sent = followed_by_silence(ramp(seconds * SAMPLE_RATE, channels))

    def attempt() -> list[Chunk]:
        capture = open_audio_capture(
            channels, target="wide", quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        )
        listener = Listener(capture)
        assert applications.play(sent, target="wide").wait(30) == 0
        wait_until("the end", lambda: not listener.chunks[-1].pcm.any())
        assert capture.stats.lost == 0
        listener.stop()
        return listener.chunks

    received = heard(joined(undisturbed(attempt)))
    assert np.array_equal(received, np.arange(1, seconds * SAMPLE_RATE + 1))


@pytest.mark.parametrize("channels", [6, 8])
def test_positions_a_narrower_sink_lacks_are_exactly_silent(
    private_graph: PrivateGraph, applications: Applications, channels: int
) -> None:
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (SAMPLE_RATE, 2)).astype(np.float32)
    capture = open_audio_capture(channels, remote=private_graph.remote)
    listener = Listener(capture)
    assert applications.play(noise).wait(30) == 0
    pcm = listener.stop()
    assert np.abs(pcm[:, :2]).max() > 0.8
    assert not pcm[:, 2:].any()


def test_a_5_1_sink_captured_as_7_1_leaves_the_sides_exactly_silent(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink("surround", 6)
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (SAMPLE_RATE, 6)).astype(np.float32)
    listener = Listener(open_audio_capture(8, target="surround", remote=private_graph.remote))
    assert applications.play(noise, target="surround").wait(30) == 0
    pcm = listener.stop()
    assert (np.abs(pcm[:, :6]).max(axis=0) > 0.8).all()
    assert not pcm[:, 6:].any()


def test_mono_holds_both_sides_of_a_stereo_sink(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    both = np.stack([tone(500, 1)[:, 0], tone(2000, 1)[:, 0]], axis=1)
    capture = open_audio_capture(1, quantum_frames=STEADY_FRAMES, remote=private_graph.remote)
    listener = Listener(capture)
    assert applications.play(both).wait(30) == 0
    pcm = listener.stop()
    assert pcm.shape[1] == 1
    middle = pcm[np.flatnonzero(pcm[:, 0])[0] :][: SAMPLE_RATE // 2]
    spectrum = np.abs(np.fft.rfft(middle[:, 0] * np.hanning(len(middle))))
    left, right = spectrum[500 // 2], spectrum[2000 // 2]
    assert left == pytest.approx(right, rel=0.2)
    assert left > 100 * np.median(spectrum)


def test_the_node_asks_for_the_quantum_and_not_for_a_remembered_volume(
    private_graph: PrivateGraph,
) -> None:
    with open_audio_capture(quantum_frames=480, remote=private_graph.remote):
        properties = private_graph.properties("stagebox-capture")
    assert properties["node.latency"] == "480/48000"
    assert not properties["state.restore-props"]
    assert not properties["state.restore-target"]


def test_without_a_session_manager_a_capture_waits(private_graph: PrivateGraph) -> None:
    _, _, manager = private_graph.processes
    manager.kill()
    manager.wait()
    with open_audio_capture(remote=private_graph.remote) as capture:
        assert not capture.next_chunk(timeout=0.3)
        assert capture.stats.state == "idle"


@pytest.mark.alone
def test_a_capture_without_target_follows_the_default_sink(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink("other")
    capture = open_audio_capture(remote=private_graph.remote)
    private_graph.configure_default("sink", "other")
    wait_until("the new default", lambda: private_graph.default("sink") == "other")
    listener = Listener(capture)
    applications.play(tone(1000, 20), target="other")
    wait_until("sound from the new default", lambda: np.abs(listener.pcm()).max(initial=0) > 0.4)
    listener.stop()


def test_a_target_is_heard_and_the_default_sink_is_not(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink("other")
    capture = open_audio_capture(
        target="other", quantum_frames=STEADY_FRAMES, remote=private_graph.remote
    )
    listener = Listener(capture)
    applications.play(tone(500, 20))
    applications.play(tone(2000, 20), target="other")
    wait_until("the tone", lambda: len(longest_sound(listener.pcm())) > SAMPLE_RATE)
    pcm = longest_sound(listener.stop())[-SAMPLE_RATE // 2 :]
    spectrum = np.abs(np.fft.rfft(pcm[:, 0] * np.hanning(len(pcm))))
    at = len(pcm) / SAMPLE_RATE
    assert loudest_hz(pcm) == pytest.approx(2000, abs=3)
    assert spectrum[round(500 * at)] < spectrum[round(2000 * at)] / 1000


def test_a_source_is_never_captured_and_a_sink_that_comes_later_is(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_source("tone")
    private_graph.remove(private_graph.sink)
    capture = open_audio_capture(remote=private_graph.remote)
    assert not capture.next_chunk(timeout=1.0)
    assert capture.stats.frames == 0
    private_graph.add_sink("late")
    listener = Listener(capture)
    applications.play(tone(2000, 20), target="late")
    wait_until("the late sink's sound", lambda: np.count_nonzero(listener.pcm()) > SAMPLE_RATE)
    pcm = listener.stop()
    assert loudest_hz(pcm[-SAMPLE_RATE // 5 :]) == pytest.approx(2000, abs=10)


def test_a_capture_waits_for_its_target_rather_than_record_another_sink(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink("headset")
    capture = open_audio_capture(target="headset", remote=private_graph.remote)
    applications.play(tone(500, 20))  # into the other sink
    listener = Listener(open_audio_capture(remote=private_graph.remote))
    wait_until("sound on the other sink", lambda: np.abs(listener.pcm()).max(initial=0) > 0.4)
    private_graph.remove("headset")
    wait_until("it to wait", lambda: capture.stats.state == "idle")
    listener.stop()
    assert not capture.read(200_000, timeout=0.5).any()
    assert capture.stats.state == "idle"


def test_a_target_that_several_sinks_are_called_is_refused_and_they_are_named(
    private_graph: PrivateGraph,
) -> None:
    for _ in range(2):
        private_graph.add_sink("twin")
    twins = [
        str(entry["id"])
        for entry in private_graph.dump()
        if (entry.get("info") or {}).get("props", {}).get("node.name") == "twin"
    ]
    assert len(twins) == 2
    with pytest.raises(ValueError, match="'twin', which makes it ambiguous") as refusal:
        open_audio_capture(target="twin", remote=private_graph.remote)
    assert all(twin in str(refusal.value).split(": the objects ")[1] for twin in twins)
    with open_audio_capture(target=private_graph.sink, remote=private_graph.remote) as capture:
        assert capture.next_chunk()


@pytest.mark.alone
def test_a_graph_at_44100_hz_is_captured_at_48000(tmp_path: Path) -> None:
    with PrivateGraph(rate_hz=44_100) as graph:
        applications = Applications(graph, tmp_path)
        with open_audio_capture(remote=graph.remote, quantum_frames=STEADY_FRAMES) as capture:
            applications.play(tone(1000, 20))
            wait_until("the tone", lambda: np.any(capture.next_chunk().pcm))

            def a_second() -> list[Chunk]:
                chunks: list[Chunk] = []
                while sum(map(len, chunks)) < SAMPLE_RATE:
                    chunks.append(capture.next_chunk())
                return chunks

            chunks = undisturbed(a_second)
            stats = capture.stats
        applications.stop()
    assert stats.rate_hz == SAMPLE_RATE
    assert stats.graph_rate_hz == 44_100
    assert loudest_hz(joined(chunks)[-SAMPLE_RATE:]) == pytest.approx(1000, abs=2)
    seconds = (chunks[-1].time_ns - chunks[0].time_ns) / 1e9
    assert sum(map(len, chunks[:-1])) / seconds == pytest.approx(SAMPLE_RATE, rel=0.01)


def wait_for_frames(capture: stagebox.AudioCapturer, frames: int) -> None:
    """Sleep, as far as the capture can tell, until it has captured that many more."""
    enough = capture.stats.frames + frames
    wait_until("frames nobody reads", lambda: capture.stats.frames >= enough)


# --- time and loss ---------------------------------------------------------------------------


@pytest.mark.alone
def test_a_reader_asleep_for_a_second_loses_nothing(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    def attempt() -> list[Chunk]:
        chunks = []
        with open_audio_capture(
            quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        ) as capture:
            player = applications.play(followed_by_silence(ramp(3 * SAMPLE_RATE, 2)))
            while player.poll() is None:
                chunks.append(capture.next_chunk())
                wait_for_frames(capture, SAMPLE_RATE)
            chunks.append(capture.next_chunk())
            assert capture.stats.lost == 0
        return chunks

    chunks = undisturbed(attempt)
    assert max(map(len, chunks)) >= SAMPLE_RATE
    assert np.array_equal(heard(joined(chunks)), np.arange(1, 3 * SAMPLE_RATE + 1))


def chunks_until_loss(capture: stagebox.AudioCapturer) -> list[Chunk]:
    """What waits up to the first loss, and the chunk after it."""
    chunks = [capture.next_chunk()]
    while not chunks[-1].lost_frames:
        chunks.append(capture.next_chunk())
    return chunks


@pytest.mark.alone
def test_a_full_ring_counts_exactly_what_it_lost(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(ramp(100 * SAMPLE_RATE, 2))

    def attempt() -> list[Chunk]:
        with open_audio_capture(
            quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        ) as capture:
            while not capture.next_chunk().pcm.any():
                pass
            wait_until("a loss", lambda: capture.stats.lost > 0)
            chunks = chunks_until_loss(capture)
            assert chunks[-1].lost_frames == capture.stats.lost
        return chunks

    *_, before, after = undisturbed(attempt)
    # silence among what was lost would be the player's: then the ramp moved on by less
    assert 0 < heard(after.pcm)[0] - heard(before.pcm)[-1] - 1 <= after.lost_frames


@pytest.mark.alone
def test_a_chunk_never_spans_a_loss(private_graph: PrivateGraph) -> None:
    ring, part, longest_quantum = 1 << 17, 60_000, 8192
    with open_audio_capture(remote=private_graph.remote) as capture:
        wait_until("a loss", lambda: capture.stats.lost > 0)
        assert len(capture.read(part)) == part  # makes room behind the loss
        wait_for_frames(capture, 1)
        *before, _ = chunks_until_loss(capture)
    assert ring - longest_quantum < part + sum(map(len, before)) <= ring


@pytest.mark.alone
def test_a_chunk_never_spans_a_pause_of_the_graph(private_graph: PrivateGraph) -> None:
    with open_audio_capture(quantum_frames=STEADY_FRAMES, remote=private_graph.remote) as capture:
        wait_for_frames(capture, 4 * STEADY_FRAMES)
        private_graph.remove(private_graph.sink)
        wait_until("the pause", lambda: capture.stats.state == "idle")
        private_graph.add_sink("next")
        wait_for_frames(capture, 4 * STEADY_FRAMES)
        chunks = [capture.next_chunk()]
        while capture.stats.waiting:
            chunks.append(capture.next_chunk())
    assert not any(chunk.lost_frames for chunk in chunks)
    # There may be a shorter one as well, where the graph found its quantum at first.
    longest_ns = max(
        after.time_ns - before.time_ns - len(before) * 1_000_000_000 // SAMPLE_RATE
        for before, after in pairwise(chunks)
    )
    assert longest_ns > STEADY_FRAMES * 500_000_000 // SAMPLE_RATE


@pytest.mark.alone
def test_times_are_the_graphs_and_go_on_with_the_frames(private_graph: PrivateGraph) -> None:
    def attempt() -> list[Chunk]:
        with open_audio_capture(
            quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        ) as capture:
            capture.next_chunk()
            before = time.monotonic_ns()
            capture.drain()
            wait_for_frames(capture, SAMPLE_RATE // 2)  # a late reader does not make sound younger
            late = time.monotonic_ns()
            chunks = [capture.next_chunk() for _ in range(20)]
            assert before - 100_000_000 < chunks[0].time_ns < late - 300_000_000
            assert chunks[-1].time_ns <= time.monotonic_ns()
        return chunks

    undisturbed(attempt)  # which is what it checks


# --- the ways to read --------------------------------------------------------------------------


def test_a_chunk_is_float32_contiguous_and_the_callers_own(private_graph: PrivateGraph) -> None:
    with open_audio_capture(6, remote=private_graph.remote) as capture:
        assert capture.channels == 6
        chunk = capture.next_chunk()
        assert chunk
        assert chunk.pcm.dtype == np.float32
        assert chunk.pcm.shape == (len(chunk), 6)
        assert chunk.pcm.flags.c_contiguous
        chunk.pcm[:] = 1
        for other in [capture.next_chunk() for _ in range(10)]:
            assert not np.shares_memory(chunk.pcm, other.pcm)
            assert not other.pcm.any()  # the sink is silent: what we wrote is ours alone
    assert (chunk.pcm == 1).all()


@pytest.mark.alone
def test_a_chunk_keeps_no_memory_much_larger_than_its_frames(private_graph: PrivateGraph) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        wait_for_frames(capture, SAMPLE_RATE // 2)  # after so many, room is made for many
        late = capture.next_chunk()
        chunks = [capture.next_chunk() for _ in range(100)]
        assert min(map(len, chunks)) < len(late) // 4
        for chunk in (late, *chunks):
            memory = chunk.pcm if chunk.pcm.base is None else chunk.pcm.base
            assert isinstance(memory, np.ndarray)
            assert memory.nbytes <= 2 * chunk.pcm.nbytes


def test_an_empty_chunk_means_quiet_and_is_falsy(private_graph: PrivateGraph) -> None:
    private_graph.remove(private_graph.sink)
    with open_audio_capture(remote=private_graph.remote) as capture:
        begin = time.monotonic()
        chunk = capture.next_chunk(timeout=0.3)
        assert 0.3 <= time.monotonic() - begin < 1
        assert not chunk
        assert len(chunk) == 0
        assert chunk.pcm.shape == (0, 2)
        assert len(capture.read(480, timeout=0.1)) == 0
        assert capture.stats.state == "idle"


@pytest.mark.alone
def test_read_returns_exactly_what_an_encoder_needs(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with open_audio_capture(quantum_frames=STEADY_FRAMES, remote=private_graph.remote) as capture:
        player = applications.play(ramp(SAMPLE_RATE, 2))
        out = np.empty((960, 2), np.float32)
        numbers = []
        while player.poll() is None:
            block = capture.read(960, out=out)
            assert np.shares_memory(block, out)
            assert block.shape == (960, 2)
            numbers.append(heard(block))
        rest = capture.read(100_000, timeout=0.3)
        assert 0 < len(rest) < 100_000  # fewer only on timeout
    steps = np.diff(np.concatenate(numbers))
    assert len(steps) > SAMPLE_RATE // 2
    assert (steps > 0).all()
    assert np.count_nonzero(steps != 1) < 5  # cycles the machine missed; blocks would be 50


@pytest.mark.alone
def test_a_read_that_waits_for_the_rest_of_its_frames_sleeps(
    private_graph: PrivateGraph,
) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        wait_for_frames(capture, 1)
        private_graph.remove(private_graph.sink)
        wait_until("the pause", lambda: capture.stats.state == "idle")
        begin = time.thread_time()
        assert 0 < len(capture.read(100_000, timeout=1.0)) < 100_000
        assert time.thread_time() - begin < 0.1


@pytest.mark.alone
def test_a_read_longer_than_the_ring_is_whole(private_graph: PrivateGraph) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        assert len(capture.read(150_000, timeout=20)) == 150_000
        assert capture.stats.lost == 0


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"frames": 0}, ValueError, "1 or more"),
        ({"frames": 1.5}, TypeError, "int"),
        ({"frames": 10, "timeout": -1}, ValueError, "timeout"),
        ({"frames": 10, "out": np.empty((10, 2))}, TypeError, "float32"),
        ({"frames": 10, "out": np.empty((9, 2), np.float32)}, ValueError, r"\(10, 2\)"),
        ({"frames": 10, "out": np.empty((2, 10), np.float32).T}, ValueError, "contiguous"),
    ],
)
def test_a_wrong_read_is_refused(
    private_graph: PrivateGraph, arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    with (
        open_audio_capture(remote=private_graph.remote) as capture,
        pytest.raises(error, match=says),
    ):
        capture.read(**arguments)  # type: ignore[arg-type]  # that is the point


def test_drain_forgets_what_waits(private_graph: PrivateGraph) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        wait_until("a backlog", lambda: capture.stats.waiting > SAMPLE_RATE // 2)
        capture.drain()
        assert len(capture.next_chunk()) < SAMPLE_RATE // 4


def is_readable(capture: stagebox.AudioCapturer, timeout: float = 0) -> bool:
    return bool(select.select([capture], [], [], timeout)[0])


@pytest.mark.alone
def test_fileno_polls_readable_exactly_while_data_waits(private_graph: PrivateGraph) -> None:
    with open_audio_capture(quantum_frames=2048, remote=private_graph.remote) as capture:
        for _ in range(20):
            assert is_readable(capture, 5)
            assert is_readable(capture)  # it stays so until somebody reads
            capture.read(1)
            assert is_readable(capture)  # a part was left
            while capture.next_chunk(0):
                pass
            # a quantum may come just here, but not every time
            if not is_readable(capture):
                break
        else:
            pytest.fail("still readable after everything was read")


@pytest.mark.alone
def test_fileno_wakes_after_a_read_that_waited_for_many_frames(
    private_graph: PrivateGraph,
) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        for _ in range(20):
            capture.read(5000)
            assert is_readable(capture, 5)


@pytest.mark.alone
def test_fileno_is_as_it_was_after_a_read_that_timed_out(private_graph: PrivateGraph) -> None:
    private_graph.remove(private_graph.sink)
    with open_audio_capture(remote=private_graph.remote) as capture:
        capture.read(100_000, timeout=0.1)
        assert not is_readable(capture)
        private_graph.add_sink("late")
        assert is_readable(capture, 5)
        assert capture.stats.waiting < 50_000


@pytest.mark.alone
def test_a_chunk_is_empty_only_at_its_timeout_though_others_read_too(
    private_graph: PrivateGraph,
) -> None:
    with open_audio_capture(remote=private_graph.remote) as capture:
        others = [Listener(capture), Listener(capture)]
        for _ in range(100):
            chunk = capture.next_chunk()
            assert chunk
            assert chunk.time_ns > 0
        capture.close()
        for other in others:
            other.stop()


def test_iterating_yields_audio_until_the_capture_is_closed(private_graph: PrivateGraph) -> None:
    capture = open_audio_capture(remote=private_graph.remote)
    seen = 0
    for chunk in capture:
        assert chunk
        seen += 1
        if seen == 10:
            capture.close()
    assert seen == 10


@pytest.mark.alone
def test_async_iteration_leaves_the_event_loop_free(private_graph: PrivateGraph) -> None:
    async def listen() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticker = asyncio.create_task(tick())
        frames = 0
        with open_audio_capture(remote=private_graph.remote) as capture:
            async for chunk in capture:
                frames += len(chunk)
                if frames > SAMPLE_RATE // 2:
                    capture.close()
        ticker.cancel()
        return frames, ticks

    frames, ticks = asyncio.run(listen())
    assert frames > SAMPLE_RATE // 2
    assert ticks > 20


def test_two_async_readers_share_one_capture(private_graph: PrivateGraph) -> None:
    async def listen() -> list[int]:
        with open_audio_capture(remote=private_graph.remote) as capture:

            async def count() -> int:
                frames = 0
                async for chunk in capture:
                    frames += len(chunk)
                    if capture.stats.frames > SAMPLE_RATE // 2:
                        capture.close()
                return frames

            return list(await asyncio.gather(count(), count()))

    assert sum(asyncio.run(listen())) > SAMPLE_RATE // 3


def test_async_iteration_can_be_cancelled(private_graph: PrivateGraph) -> None:
    private_graph.remove(private_graph.sink)

    async def listen() -> None:
        with open_audio_capture(remote=private_graph.remote) as capture:
            async for _ in capture:
                pytest.fail("there is nothing to hear")

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(listen(), 0.2))


# --- interruption --------------------------------------------------------------------------------


@pytest.mark.alone
def test_close_from_another_thread_wakes_a_waiting_reader(private_graph: PrivateGraph) -> None:
    private_graph.remove(private_graph.sink)
    # at many moments, also the ends of the slices that a wait is cut into
    for delay_ms in (0, 1, 10, 25, 49, 49.5, 50, 50.5, 51, 99.5, 100, 100.5, 150) * 2:
        capture = open_audio_capture(remote=private_graph.remote)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(capture.next_chunk, 30)
            time.sleep(delay_ms / 1000)
            begin = time.monotonic()
            capture.close()
            with pytest.raises(CaptureClosed):
                reading.result(10)
            assert time.monotonic() - begin < 1


def test_a_closed_capture_says_so(private_graph: PrivateGraph) -> None:
    capture = open_audio_capture(remote=private_graph.remote)
    frames = len(capture.next_chunk())
    capture.close()
    capture.close()
    for call in (capture.next_chunk, lambda: capture.read(10), capture.drain, capture.fileno):
        with pytest.raises(CaptureClosed):
            call()
    assert capture.stats.state == "closed"
    assert capture.stats.frames >= frames  # the last figures stay


WAITING = """
import sys, time, stagebox
capture = stagebox.open_audio_capture(remote=sys.argv[1])
print("waiting", flush=True)
try:
    capture.{call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("call", ["next_chunk(30)", "read(100000, 30)"])
@pytest.mark.alone
def test_ctrl_c_is_answered_within_100_ms_while_waiting(
    private_graph: PrivateGraph, call: str
) -> None:
    private_graph.remove(private_graph.sink)
    delays = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WAITING.format(call=call), private_graph.remote],
            env=untraced(os.environ),
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            assert waiting.stdout
            assert waiting.stdout.readline() == "waiting\n"
            time.sleep(0.1)
            sent = time.monotonic()
            waiting.send_signal(signal.SIGINT)
            delays.append(float(waiting.stdout.readline()) - sent)
    assert sorted(delays)[1] < 0.1
