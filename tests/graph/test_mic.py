"""Voice in, on a real daemon: what an application records is what was pushed."""

from __future__ import annotations

import array
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stagebox import SAMPLE_RATE, BackendDied, open_virtual_mic
from tests.conftest import wait_until
from tests.graph.conftest import (
    STEADY_FRAMES,
    Applications,
    counted,
    ramp,
    recorded_mic,
    speak,
    tone,
    wait_for_recorder,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebox.mic import MicStats
    from stagebox.testing import PrivateGraph

pytestmark = pytest.mark.alone


def sum_of_fates(stats: MicStats) -> int:
    return (
        stats.played + stats.dropped + stats.trimmed + stats.stale + stats.discarded + stats.depth
    )


@pytest.mark.parametrize(("channels", "block_frames"), [(1, 960), (2, 240), (2, 960), (2, 2880)])
def test_an_application_hears_what_is_pushed_in_order_and_exactly(
    applications: Applications, channels: int, block_frames: int
) -> None:
    sent = ramp(2 * SAMPLE_RATE, channels)
    with recorded_mic(applications, channels, STEADY_FRAMES) as (mic, recorded):
        speak(mic, sent, block_frames)
        wait_until("the end", lambda: mic.stats.depth == 0)
        stats = mic.stats
    received = counted(recorded[0])
    received = received[received > 0]
    assert (np.diff(received) > 0).all()  # in order, and nothing twice
    # every frame that is missing is one that the microphone says it cut, or that a recorder
    # which starts and stops with its own quanta did not keep
    assert len(sent) - stats.trimmed - 2 * STEADY_FRAMES <= len(received) <= len(sent)
    assert stats.pushed == len(sent) == sum_of_fates(stats)
    assert stats.dropped == stats.stale == stats.discarded == 0


def test_a_tone_is_recorded_at_its_level(applications: Applications) -> None:
    with recorded_mic(applications) as (mic, recorded):
        speak(mic, tone(440, 1))
    assert np.abs(recorded[0]).max() == pytest.approx(0.5, abs=0.001)


def test_every_application_that_records_hears_it(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with (
        open_virtual_mic(remote=private_graph.remote) as mic,
        applications.recording() as one,
        applications.recording() as other,
    ):
        wait_for_recorder(mic)
        speak(mic, tone(440, 1))
    assert np.abs(one[0]).max() > 0.4
    assert np.abs(other[0]).max() > 0.4


def test_silence_is_recorded_while_nothing_is_pushed(applications: Applications) -> None:
    with recorded_mic(applications) as (mic, recorded):
        time.sleep(0.2)
        stats = mic.stats
    assert stats.underruns == stats.reprimes == 0  # nobody spoke: nothing was missed
    assert len(recorded[0]) > 0
    assert not recorded[0].any()


def test_what_was_pushed_before_anybody_recorded_is_never_heard(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with open_virtual_mic(remote=private_graph.remote) as mic:
        opened = time.monotonic()
        stale = np.full((4800, 2), 0.9, np.float32)
        assert mic.push(stale)
        wait_until("a second without a recorder", lambda: time.monotonic() > opened + 1.1)
        with applications.recording() as recorded:
            wait_for_recorder(mic)
            speak(mic, tone(440, 0.5))
        assert mic.stats.stale >= len(stale)
    assert 0.4 < np.abs(recorded[0]).max() < 0.6


def test_discarded_sound_is_never_heard(applications: Applications) -> None:
    with recorded_mic(applications) as (mic, recorded):
        mic.set_target_frames(SAMPLE_RATE // 4)  # so that it stays in the ring long enough
        assert mic.push(np.full((4800, 2), 0.9, np.float32))
        mic.discard()
        assert mic.stats.depth == 0
        mic.set_target_frames(None)
        speak(mic, tone(440, 0.5))
        stats = mic.stats
    assert stats.discarded == 4800
    assert 0.4 < np.abs(recorded[0]).max() < 0.6


def test_a_single_short_block_is_heard(applications: Applications) -> None:
    with recorded_mic(applications, quantum_frames=STEADY_FRAMES) as (mic, recorded):
        assert mic.push(np.full((240, 2), 0.5, np.float32))
        wait_until("it to be played", lambda: mic.stats.played == 240)
        time.sleep(0.1)
    assert np.count_nonzero(recorded[0][:, 0]) == 240


def test_blocks_of_most_of_a_second_are_heard_whole(applications: Applications) -> None:
    sent = ramp(3 * 40_000, 2)
    with recorded_mic(applications, quantum_frames=STEADY_FRAMES) as (mic, recorded):
        speak(mic, sent, block_frames=40_000)
        wait_until("the end", lambda: mic.stats.depth == 0)
        stats = mic.stats
    assert stats.played + stats.trimmed == len(sent)
    received = counted(recorded[0])
    assert np.count_nonzero(received) > 0.9 * len(sent)


def test_the_beginning_of_what_is_said_is_not_cut(applications: Applications) -> None:
    with recorded_mic(applications, quantum_frames=STEADY_FRAMES) as (mic, recorded):
        for _ in range(3):  # with a pause in between, each is primed anew
            speak(mic, ramp(960, 2), block_frames=960)
            wait_until("the end", lambda: mic.stats.depth == 0)
            time.sleep(0.05)
    received = counted(recorded[0])
    assert np.count_nonzero(received == 1) == 3
    assert np.count_nonzero(received == 960) == 3


def test_the_target_is_the_recorders_quantum_and_the_longest_block(
    applications: Applications,
) -> None:
    with recorded_mic(applications) as (mic, _):
        silence = np.zeros((5760, 2), np.float32)
        mic.push(silence[:240])
        stats = mic.stats
        assert stats.target == stats.quantum + 480
        mic.push(silence)
        stats = mic.stats
        assert stats.target == stats.quantum + 5760
        mic.set_target_frames(1000)
        assert mic.stats.target == 1000


def test_the_delay_stays_bounded_when_too_much_is_pushed(applications: Applications) -> None:
    block = np.zeros((480, 2), np.float32)
    with recorded_mic(applications, quantum_frames=STEADY_FRAMES) as (mic, _):
        for _ in range(60):
            assert mic.push(block)
        played = mic.stats.played
        wait_until("some cycles", lambda: mic.stats.played > played + 2 * STEADY_FRAMES)
        stats = mic.stats
    assert stats.trimmed > 0
    assert stats.depth <= stats.target + stats.quantum


def test_a_full_ring_drops_counts_and_returns_true(private_graph: PrivateGraph) -> None:
    with open_virtual_mic(remote=private_graph.remote) as mic:
        block = np.zeros((SAMPLE_RATE, 2), np.float32)
        assert [mic.push(block) for _ in range(5)] == [True] * 5
        stats = mic.stats
    assert stats.pushed == 5 * SAMPLE_RATE
    assert stats.dropped == 4 * SAMPLE_RATE
    assert sum_of_fates(stats) == stats.pushed


def test_what_is_not_a_number_is_recorded_as_silence(applications: Applications) -> None:
    junk = tone(440, 1)
    junk[::3] = np.nan
    junk[1::3] = np.inf
    with recorded_mic(applications) as (mic, recorded):
        speak(mic, junk)
    assert np.isfinite(recorded[0]).all()
    assert np.abs(recorded[0]).max() <= 0.51


def test_what_is_beyond_full_scale_is_clipped(applications: Applications) -> None:
    with recorded_mic(applications) as (mic, recorded):
        speak(mic, tone(440, 1) * np.float32(1e6))
    assert np.abs(recorded[0]).max() == 1


def test_several_threads_may_push_at_once(private_graph: PrivateGraph) -> None:
    with open_virtual_mic(remote=private_graph.remote) as mic:
        block = np.zeros((48, 2), np.float32)

        def push() -> None:
            for _ in range(500):
                assert mic.push(block)

        threads = [threading.Thread(target=push) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = mic.stats
    assert stats.pushed == 8 * 500 * 48 == sum_of_fates(stats)


# --- how it appears ------------------------------------------------------------------------------


def test_the_microphone_is_a_source_with_its_name_when_open_returns(
    private_graph: PrivateGraph,
) -> None:
    with open_virtual_mic(remote=private_graph.remote):
        properties = private_graph.properties("stagebox-mic")
    assert properties["media.class"] == "Audio/Source"
    assert properties["node.description"] == "Stagebox Remote Microphone"
    assert properties["node.latency"] == "240/48000"
    assert "stagebox-mic" not in private_graph.node_names()


@pytest.mark.parametrize(
    "name",
    ['with "quotes"', "line\nbreak", "{ media.class = Audio/Sink }", "Mikrofon für 🎤", "x" * 4096],
)
def test_a_name_is_carried_exactly_and_cannot_become_a_property(
    private_graph: PrivateGraph, name: str
) -> None:
    with open_virtual_mic(name=name, description=name, remote=private_graph.remote):
        properties = private_graph.properties(name)
    assert properties["node.description"] == name
    assert properties["media.class"] == "Audio/Source"


def test_make_default_makes_it_the_default_source(private_graph: PrivateGraph) -> None:
    private_graph.add_source("hardware")
    with open_virtual_mic(remote=private_graph.remote):
        wait_until("the default", lambda: private_graph.default("source") == "stagebox-mic")
        assert private_graph.properties("stagebox-mic")["priority.session"] == 3000
    wait_until("the old default", lambda: private_graph.default("source") == "hardware")


def test_without_make_default_it_ranks_below_hardware(private_graph: PrivateGraph) -> None:
    private_graph.add_source("hardware")
    with open_virtual_mic(make_default=False, remote=private_graph.remote):
        with open_virtual_mic(name="other", remote=private_graph.remote):
            wait_until("another default", lambda: private_graph.default("source") == "other")
        # so the session manager has chosen anew, with ours there
        wait_until("the hardware", lambda: private_graph.default("source") == "hardware")
        assert private_graph.properties("stagebox-mic")["priority.session"] == 50


def test_a_users_configured_default_is_never_overwritten(private_graph: PrivateGraph) -> None:
    private_graph.add_source("hardware")
    private_graph.configure_default("source", "hardware")
    wait_until("the user's default", lambda: private_graph.default("source") == "hardware")
    with (
        open_virtual_mic(remote=private_graph.remote) as mic,
        open_virtual_mic(name="second", remote=private_graph.remote),
    ):
        wait_until("both", lambda: {"stagebox-mic", "second"} <= set(private_graph.node_names()))
        assert mic.alive
        assert private_graph.default("source") == "hardware"


# --- misuse --------------------------------------------------------------------------------------


def strided() -> NDArray[np.float32]:
    return np.zeros((10, 4), np.float32)[:, ::2]


@pytest.mark.parametrize(
    ("pcm", "error", "says"),
    [
        (np.zeros((10, 2)), TypeError, "float32"),
        (np.zeros((10, 2), np.int16), TypeError, "float32"),
        (b"12345678", TypeError, "float32"),
        ([0.0, 0.0], TypeError, "buffer"),
        (None, TypeError, "buffer"),
        (np.zeros((2, 10), np.float32), ValueError, r"\(frames, 2\)"),
        (np.zeros((1, 5, 2), np.float32), ValueError, r"\(frames, 2\)"),
        (np.float32(0.5), ValueError, r"\(frames, 2\)"),
        (np.zeros(5, np.float32), ValueError, "whole frames"),
        (strided(), ValueError, "contiguous"),
        (np.zeros((SAMPLE_RATE + 1, 2), np.float32), ValueError, "at most 48000"),
    ],
)
def test_a_wrong_push_is_refused(
    private_graph: PrivateGraph, pcm: Any, error: type[Exception], says: str
) -> None:
    with (
        open_virtual_mic(remote=private_graph.remote) as mic,
        pytest.raises(error, match=says),
    ):
        mic.push(pcm)


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros((480, 2), np.float32),
        np.zeros(960, np.float32),
        array.array("f", bytes(960 * 4)),
        memoryview(array.array("f", bytes(960 * 4))),
        np.frombuffer(bytes(480 * 8), np.float32),  # read-only
    ],
)
def test_any_contiguous_float32_buffer_is_taken(private_graph: PrivateGraph, pcm: Any) -> None:
    with open_virtual_mic(remote=private_graph.remote) as mic:
        assert mic.push(pcm)
        assert mic.stats.pushed == 480


def test_an_empty_push_does_nothing(private_graph: PrivateGraph) -> None:
    with open_virtual_mic(remote=private_graph.remote) as mic:
        assert mic.push(np.zeros((0, 2), np.float32))
        assert mic.push(np.zeros(0, np.float32))
        assert mic.stats.pushed == 0


def test_a_closed_microphone_says_so(private_graph: PrivateGraph) -> None:
    mic = open_virtual_mic(remote=private_graph.remote)
    mic.push(np.zeros((480, 2), np.float32))
    mic.close()
    mic.close()
    assert not mic.alive
    assert mic.stats.state == "closed"
    assert mic.stats.pushed == 480  # the last figures stay
    with pytest.raises(BackendDied, match="closed"):
        mic.push(np.zeros((480, 2), np.float32))
    with pytest.raises(BackendDied, match="closed"):
        mic.discard()
