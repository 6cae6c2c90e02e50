"""What the soak makes of what it sampled: the ramp it follows, the line it fits, its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.soak import verdict
from benchmarks.soak.__main__ import report
from benchmarks.soak.ramp import RampCheck, ramp
from benchmarks.soak.sample import (
    CaptureCounts,
    MicCounts,
    Process,
    PumpCounts,
    Sample,
    SampleFile,
    flat,
    read_samples,
)
from stagebox import SAMPLE_RATE, Chunk
from tests.conftest import needs_libcs_malloc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RAMP = ramp(1, 10 * SAMPLE_RATE)
QUANTUM = 1024


# --- the ramp --------------------------------------------------------------------------------


def heard(
    *parts: NDArray[np.float32], skip_at: int = -1, lost: dict[int, int] | None = None
) -> Any:
    """Follow these parts as chunks, each on time but one that comes 100 ms late."""
    check = RampCheck()
    time_ns = 5_000_000_000
    for number, pcm in enumerate(parts):
        lost_frames = (lost or {}).get(number, 0)
        time_ns += lost_frames * 1_000_000_000 // SAMPLE_RATE
        time_ns += 100_000_000 if number == skip_at else 0
        check.hear(Chunk(pcm, time_ns, lost_frames))
        time_ns += len(pcm) * 1_000_000_000 // SAMPLE_RATE
    return check


def test_an_unbroken_ramp_with_silence_in_it_is_right() -> None:
    silence = np.zeros((QUANTUM, 2), np.float32)
    check = heard(silence, RAMP[:QUANTUM], silence, RAMP[QUANTUM : 3 * QUANTUM])
    assert (check.wrong_frames, check.skipped_frames) == (0, 0)


def test_a_ramp_that_begins_again_is_right() -> None:
    assert heard(RAMP[-QUANTUM:], RAMP[QUANTUM : 2 * QUANTUM]).wrong_frames == 0


def test_frames_missing_repeated_or_changed_are_wrong() -> None:
    after = RAMP[SAMPLE_RATE * 2 :]
    assert heard(after[:QUANTUM], after[QUANTUM + 7 : 2 * QUANTUM]).wrong_frames == 7
    assert heard(after[:QUANTUM], after[QUANTUM - 7 : 2 * QUANTUM]).wrong_frames == 7
    changed = after[:QUANTUM].copy()
    changed[100, 1] = 0.5
    assert heard(changed).wrong_frames == 1


def test_frames_that_were_counted_as_lost_are_not_wrong() -> None:
    after = RAMP[SAMPLE_RATE * 2 :]
    assert heard(after[:QUANTUM], after[QUANTUM + 480 :], lost={1: 480}).wrong_frames == 0
    assert heard(after[:QUANTUM], after[QUANTUM + 481 :], lost={1: 480}).wrong_frames == 481


def test_silence_between_a_loss_and_the_next_sound_does_not_hide_the_loss() -> None:
    after = RAMP[SAMPLE_RATE * 2 :]
    silence = np.zeros((QUANTUM, 2), np.float32)
    check = heard(after[:QUANTUM], silence, after[QUANTUM + 480 :], lost={1: 480})
    assert check.wrong_frames == 0


def test_what_the_graph_skips_is_told_from_what_is_wrong() -> None:
    after = RAMP[SAMPLE_RATE * 2 :]
    check = heard(after[:QUANTUM], after[QUANTUM + 4800 : 3 * QUANTUM + 4800], skip_at=1)
    assert (check.wrong_frames, check.skipped_frames) == (0, 4800)


# --- the line --------------------------------------------------------------------------------

HOURS = np.arange(1800) / 3600


def test_the_slope_of_a_straight_line_is_exact() -> None:
    slope = verdict.fit(HOURS, 80 + 3 * HOURS)
    assert slope.per_hour == pytest.approx(3)
    assert slope.start == pytest.approx(80)
    assert slope.error == pytest.approx(0, abs=1e-6)


def test_the_error_covers_the_true_slope_though_samples_are_alike() -> None:
    chance = np.random.default_rng(5)
    off = []
    for _ in range(50):
        noise = np.zeros(len(HOURS))
        for at in range(1, len(noise)):
            noise[at] = 0.95 * noise[at - 1] + chance.normal(0, 0.05)
        slope = verdict.fit(HOURS, 80 + 2 * HOURS + noise)
        off.append(abs(slope.per_hour - 2) / slope.error)
    assert 25 < np.count_nonzero(np.array(off) < 1) < 43  # a standard error: 34 of 50


def test_too_few_samples_have_no_slope_and_no_certainty() -> None:
    assert verdict.fit(np.zeros(1), np.array([80.0])) == verdict.Slope(80, 0, np.inf)


# --- the verdict -----------------------------------------------------------------------------


def sample(*, is_open: bool) -> Sample:
    """A second in which nothing happened, mic1 recorded throughout."""
    return Sample(
        elapsed_s=0,
        process=Process(80_000, 20_000, 100, *((45, 9) if is_open else (7, 2))),
        open_streams=4 if is_open else 0,
        restarting=0,
        recorder_changed=0,
        recording=1,
        recorded_mics=3,
        capture=CaptureCounts(48_000, 47, 0, 0, 0),
        capture_late_ms=1,
        mic1=MicCounts(),
        mic1_late_ms=1,
        mic2=MicCounts(),
        mic2_late_ms=1,
        pump=PumpCounts(50, 0, 0, 0),
        pump_mic=MicCounts(1, 2, 3, 4, 5),
        pump_late_ms=1,
    )


@pytest.fixture
def good_run(tmp_path: Path) -> NDArray[Any]:
    """Half an hour of such seconds, and one before the opening and one after the closing."""
    path = tmp_path / "soak.csv"
    with path.open("w") as file:
        samples = SampleFile(file)
        for is_open in (False, True, False):
            samples.add(sample(is_open=is_open))
    rows = np.repeat(read_samples(path), (1, 1800, 1))
    rows["elapsed_s"] = np.arange(len(rows))
    return rows


def outcome(rows: NDArray[Any], name: str) -> bool | None:
    return next(check.holds for check in verdict.checks(rows) if check.name == name)


def test_a_run_in_which_nothing_happened_holds(good_run: NDArray[Any]) -> None:
    assert [check.holds for check in verdict.checks(good_run)] == [True] * 7


@pytest.mark.parametrize(("mib_per_hour", "holds"), [(0.8, True), (1.2, False), (-1.2, False)])
def test_memory_holds_within_one_mib_an_hour(
    good_run: NDArray[Any], mib_per_hour: float, holds: bool
) -> None:
    good_run["rss_kib"] += 1024 * mib_per_hour * good_run["elapsed_s"] / 3600
    assert outcome(good_run, "memory") is holds


def test_growth_in_the_warm_up_is_none(good_run: NDArray[Any]) -> None:
    good_run["rss_kib"][:300] -= 20_000
    assert outcome(good_run, "memory") is True


def test_memory_is_judged_after_the_first_restart(good_run: NDArray[Any]) -> None:
    good_run["restarting"][600:620] = 1
    good_run["rss_kib"][:620] -= 20_000
    assert outcome(good_run, "memory") is True


def test_memory_is_judged_when_every_microphone_was_recorded(good_run: NDArray[Any]) -> None:
    good_run["restarting"][600:620] = good_run["restarting"][1200:1220] = 1
    good_run["recorded_mics"][1220:1260] = 1
    good_run["rss_kib"][1220:1260] -= 10_000
    assert outcome(good_run, "memory") is True


def test_a_short_run_says_nothing_about_memory(good_run: NDArray[Any]) -> None:
    good_run["rss_kib"] += 100 * good_run["elapsed_s"]
    assert outcome(good_run[:600], "memory") is None
    assert outcome(good_run[:1], "memory") is None


def test_memory_that_wavers_too_much_for_the_run_says_nothing(good_run: NDArray[Any]) -> None:
    good_run["rss_kib"] += 4000 * (good_run["elapsed_s"] % 600 > 300)
    assert outcome(good_run, "memory") is None


@pytest.mark.parametrize(
    ("column", "name"), [("capture_lost", "lost frames"), ("capture_wrong", "sound")]
)
def test_frames_fail_the_run_unless_the_daemon_restarts(
    good_run: NDArray[Any], column: str, name: str
) -> None:
    good_run[column][900] = 1
    assert outcome(good_run, name) is False
    good_run["restarting"][900] = 1
    assert outcome(good_run, name) is True


def test_an_underrun_without_excuse_fails_the_run(good_run: NDArray[Any]) -> None:
    good_run["mic1_underruns"][900] = 1
    assert outcome(good_run, "underruns") is False


@pytest.mark.parametrize(
    ("column", "value", "second"),
    [
        ("restarting", 1, 900),
        ("recorder_changed", 1, 900),
        ("recording", 2, 900),
        ("mic1_late_ms", 6, 900),
        ("mic1_late_ms", 6, 899),
        ("pump_late_ms", 6, 900),
        ("capture_skipped", 1024, 899),
    ],
)
def test_an_underrun_is_excused_by(
    good_run: NDArray[Any], column: str, value: int, second: int
) -> None:
    good_run["mic1_underruns"][900] = 1
    good_run[column][second] = value
    assert outcome(good_run, "underruns") is True


def test_a_run_without_a_calm_second_says_nothing_about_underruns(good_run: NDArray[Any]) -> None:
    good_run["mic1_late_ms"] = 50
    assert outcome(good_run, "underruns") is None


@pytest.mark.parametrize("name", ["descriptors", "threads"])
def test_what_is_left_open_or_grows_fails_the_run(good_run: NDArray[Any], name: str) -> None:
    left = good_run.copy()
    left[name][-1] += 1
    assert outcome(left, name) is False
    good_run[name][1400:-1] += 1
    assert outcome(good_run, name) is False


def test_a_stream_that_does_not_come_back_fails_the_run(good_run: NDArray[Any]) -> None:
    good_run["restarting"][900:910] = 1
    good_run["open_streams"][900:910] = 2
    assert outcome(good_run, "streams") is True
    good_run["open_streams"][910] = 3
    assert outcome(good_run, "streams") is False


# --- the file --------------------------------------------------------------------------------


def test_columns_are_named_after_their_part() -> None:
    columns = flat(sample(is_open=True))
    assert columns["rss_kib"] == 80_000
    assert columns["capture_cycles"] == 47
    assert columns["pump_packets"] == 50
    assert columns["pump_mic_stale"] == 5
    assert columns["mic2_late_ms"] == 1


@needs_libcs_malloc
def test_a_process_takes_something() -> None:
    now = Process.now()
    assert now.rss_kib > now.heap_kib > 0
    assert now.python_blocks > 0
    assert now.descriptors >= 3
    assert now.threads >= 1


def test_a_run_that_ended_at_once_has_nothing_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "soak.csv"
    with path.open("w") as file:
        samples = SampleFile(file)
        samples.add(sample(is_open=False))
        samples.add(sample(is_open=False))
    assert not report(path)
    assert "nothing to tell" in capsys.readouterr().out


def test_counters_add_up_and_compare() -> None:
    assert MicCounts(5, 4, 3, 2, 1) - MicCounts(1, 1, 1, 1, 1) == MicCounts(4, 3, 2, 1, 0)
    assert PumpCounts(1, 2, 3, 4) + PumpCounts(1, 1, 1, 1) == PumpCounts(2, 3, 4, 5)
