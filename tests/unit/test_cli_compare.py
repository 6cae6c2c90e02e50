"""The demo's measuring, and its verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import SAMPLE_RATE
from stagebox.cli import compare, sounds
from stagebox.cli.demo import DESKTOP, VOICE, judged
from stagebox.cli.ways import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebox.cli.demo import Way

MUSIC = sounds.music(1)
SPEECH = sounds.speech(1)[:, np.newaxis]


def silence(frames: int, channels: int = 2) -> NDArray[np.float32]:
    return np.zeros((frames, channels), np.float32)


def noise(frames: int, channels: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 0.1, (frames, channels)).astype(np.float32)


# --- match -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1, 777, 48_000])
def test_a_quieter_copy_is_found_where_it_is(lag: int) -> None:
    received = np.concatenate([silence(lag), 0.25 * MUSIC, silence(100)])
    found = compare.match(MUSIC, received)
    assert found.similarity == pytest.approx(1, abs=1e-6)
    assert set(found.lags_frames) == {lag}
    assert np.allclose(found.aligned, 0.25 * MUSIC)


def test_a_recording_that_began_late_is_as_similar_as_it_is_long() -> None:
    found = compare.match(MUSIC, MUSIC[12_000:])
    assert set(found.lags_frames) == {-12_000}
    assert 0.5 < found.similarity < 0.95


@pytest.mark.parametrize("received", [silence(0), silence(48_000), noise(96_000)])
def test_what_is_something_else_is_not_similar(received: NDArray[np.float32]) -> None:
    assert compare.match(MUSIC, received).similarity < 0.1
    assert compare.match_pieces(MUSIC, received, 24_000).similarity < 0.1


def test_swapped_channels_are_not_similar() -> None:
    assert compare.match(MUSIC, MUSIC[:, ::-1]).similarity < 0.5


def test_pieces_follow_a_buffer_that_cut_something() -> None:
    long = sounds.speech(3)[:, np.newaxis]
    received = np.concatenate([silence(500, 1), long[:60_000], long[60_960:]])
    found = compare.match_pieces(long, received, SAMPLE_RATE // 4)
    assert compare.match(long, received).similarity < 0.9 < found.similarity
    assert found.lags_frames[0] == 500
    assert found.lags_frames[-1] == 500 - 960
    assert len(found.aligned) == len(found.lags_frames) == len(long)


def test_gaps_are_cut_out_and_silence_around_the_sound_is_not() -> None:
    whole = np.concatenate([silence(300), MUSIC, silence(300)])
    late = np.concatenate([whole[:9_000], silence(1024), whole[9_000:]])
    assert np.array_equal(compare.without_gaps(late), whole)
    assert np.array_equal(compare.without_gaps(whole), whole)


def test_a_short_pause_is_not_a_gap() -> None:
    pause = np.concatenate([MUSIC[:9_000], silence(compare.GAP_FRAMES - 1), MUSIC[9_000:]])
    assert len(compare.without_gaps(pause)) == len(pause)


def test_levels() -> None:
    assert compare.level_dbfs(np.ones((10, 2))) == 0
    assert compare.level_dbfs(np.full((10, 2), 0.1)) == pytest.approx(-20)
    assert compare.level_dbfs(silence(10)) == -math.inf
    assert compare.level_dbfs(silence(0)) == -math.inf


# --- the demo's sounds ---------------------------------------------------------------------------


def test_the_sounds_are_the_same_every_time_and_fit() -> None:
    assert np.array_equal(sounds.music(1), MUSIC)
    assert np.array_equal(sounds.speech(1)[:, np.newaxis], SPEECH)
    for pcm in (MUSIC, SPEECH):
        assert pcm.dtype == np.float32
        assert len(pcm) == SAMPLE_RATE
        assert 0.2 < np.abs(pcm).max() < 1


# --- the verdict ---------------------------------------------------------------------------------


def outcome(
    way: Way,
    sent: NDArray[np.float32],
    received: NDArray[np.float32],
    lost_frames: int = 0,
    gap_frames: int = 0,
) -> Outcome:
    match = (
        compare.match(sent, received)
        if way.lossless
        else compare.match_pieces(sent, received, SAMPLE_RATE // 4)
    )
    return Outcome(sent, received, match, gap_frames, lost_frames, 1.0)


@pytest.mark.parametrize(("way", "sent"), [(DESKTOP, MUSIC), (VOICE, SPEECH)])
def test_what_arrives_is_right(way: Way, sent: NDArray[np.float32]) -> None:
    assert judged(way, outcome(way, sent, sent)).faults == ()


@pytest.mark.parametrize(("way", "sent"), [(DESKTOP, MUSIC), (VOICE, SPEECH)])
@pytest.mark.parametrize("kind", ["nothing", "silence", "noise", "half"])
def test_what_does_not_arrive_is_wrong(way: Way, sent: NDArray[np.float32], kind: str) -> None:
    channels = sent.shape[1]
    received = {
        "nothing": silence(0, channels),
        "silence": silence(len(sent), channels),
        "noise": noise(len(sent), channels),
        "half": sent[: len(sent) // 2],
    }[kind]
    faults = judged(way, outcome(way, sent, received)).faults
    assert len(faults) == 1
    assert "similarity" in faults[0]


def test_a_lost_frame_is_wrong_on_the_desktop_and_measured_in_the_voice() -> None:
    desktop = judged(DESKTOP, outcome(DESKTOP, MUSIC, MUSIC, lost_frames=1))
    assert desktop.faults == ("1 frames lost",)
    assert judged(VOICE, outcome(VOICE, SPEECH, SPEECH, lost_frames=64)).faults == ()


def test_too_many_gaps_are_not_the_players() -> None:
    few = outcome(DESKTOP, MUSIC, MUSIC, gap_frames=1024)
    many = outcome(DESKTOP, MUSIC, MUSIC, gap_frames=9_000)
    assert judged(DESKTOP, few).faults == ()
    assert judged(DESKTOP, many).faults == ("9000 frames of silence in the sound",)
