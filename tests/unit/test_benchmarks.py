"""What the benchmark scripts make of what they measured; and that each can be asked for help."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.__main__ import SCRIPTS, summarise
from benchmarks.kit.answer import Answer, Panel, Target
from benchmarks.kit.decoder import load, save
from benchmarks.kit.rounds import Spread, Turns, take_turns
from benchmarks.kit.script import Options, run
from benchmarks.kit.talking import held_when
from benchmarks.kit.timeline import (
    BLOCK,
    BlockLog,
    Blocks,
    FrameCount,
    Mark,
    Read,
    ages_ms,
    latencies_ms,
    marks_of,
    percentile,
    ramp,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKOUT = Path(__file__).parents[2]


def blocks(*rows: tuple[int, int, int], step: int = 1) -> Blocks:
    """Blocks of a ramp: milliseconds, the first frame's number, frames."""
    log = BlockLog()
    for ms, first, frames in rows:
        log.note(ms * 1_000_000, ramp(first, frames)[::step])
    return Blocks.of(log._blocks)


# --- time and loss -------------------------------------------------------------------------------


def test_a_latency_is_from_the_write_of_a_frame_to_its_being_held() -> None:
    written = blocks((0, 1, 100), (10, 101, 100), (20, 201, 100))
    held = blocks((5, 1, 100), (27, 101, 200))
    assert latencies_ms(written, held).tolist() == [5, 17, 7]
    assert held.lost == 0


def test_what_was_never_held_has_no_latency_and_is_lost() -> None:
    written = blocks((0, 1, 100), (10, 101, 100), (20, 201, 100))
    held = blocks((5, 1, 100), (25, 201, 100))
    assert latencies_ms(written, held).tolist() == [5, 5]
    assert (held.lost, held.delivered) == (100, 200)


def test_an_age_is_that_of_a_blocks_oldest_frame() -> None:
    written = blocks((0, 1, 100), (10, 101, 100))
    assert ages_ms(written, blocks((30, 51, 150))).tolist() == [30]


def test_frames_lost_inside_a_block_are_lost() -> None:
    assert blocks((0, 1, 199), step=2).lost == 99


def test_silence_is_neither_delivered_nor_lost() -> None:
    log = BlockLog()
    silence = np.zeros((50, 2), np.float32)
    log.note(1, silence)
    log.note(2, np.concatenate([ramp(1, 100), silence, ramp(101, 100)]))
    found = Blocks.of(log._blocks)
    assert (len(found), found.delivered, found.lost) == (1, 200, 0)


def test_what_is_left_after_a_moment_is_counted_alone() -> None:
    held = blocks((5, 1, 100), (15, 201, 100), (25, 301, 100)).after(10_000_000)
    assert (len(held), held.lost, held.delivered) == (2, 0, 200)


def test_nothing_heard_is_infinitely_late_and_nothing_lost() -> None:
    nothing = blocks()
    assert percentile(latencies_ms(blocks((0, 1, 10)), nothing), 50) == float("inf")
    assert nothing.lost == 0


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = BlockLog()
    log.note(7, ramp(1000, 48))
    log.save(tmp_path / "log")
    (block,) = np.fromfile(tmp_path / "log", BLOCK)
    assert (block["time_ns"], block["frames"]) == (7, 48)
    assert Blocks.load(tmp_path / "log").last.tolist() == [1047]


def test_a_packet_is_found_in_a_recording_by_its_samples(tmp_path: Path) -> None:
    decoded = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    silence = np.zeros(10, np.float32)
    pcm = tmp_path / "pcm"
    np.concatenate([silence, decoded[0], decoded[2], silence]).tofile(pcm)
    log = np.zeros(4, BLOCK)
    log["frames"], log["time_ns"] = [20, 20, 20, 0], [100, 200, 300, 0]
    assert held_when(decoded, log, pcm).tolist() == [100, 0, 200]


# --- counting ------------------------------------------------------------------------------------


def counted(*blocks: NDArray[np.float32]) -> list[Mark]:
    """The marks of a count that is asked for one at its first and at its last block."""
    count = FrameCount()
    for block in blocks:
        if block is blocks[0] or block is blocks[-1]:
            count.ask()
        count.note(block)
    return count.marks


def read(*blocks: NDArray[np.float32]) -> Read:
    """What a count makes of the blocks after the first one."""
    first, last = counted(*blocks)
    return Read.between(first, last)


SILENCE = np.zeros((50, 2), np.float32)


def test_a_count_of_all_that_was_played_has_lost_nothing() -> None:
    found = read(ramp(1, 100), ramp(101, 50), ramp(151, 200))
    assert (found.frames, found.played, found.lost) == (250, 250, 0)


def test_frames_between_two_counted_blocks_are_lost() -> None:
    assert read(ramp(1, 100), ramp(151, 100)).lost == 50


def test_frames_lost_inside_a_counted_block_are_lost() -> None:
    assert read(ramp(1, 100), ramp(101, 199)[::2], ramp(300, 100)).lost == 99


def test_silence_that_a_reader_was_given_is_read() -> None:
    found = read(ramp(1, 100), SILENCE, ramp(101, 100))
    assert (found.frames, found.played, found.lost) == (150, 100, 0)


def test_a_mark_waits_for_a_block_that_ends_in_sound() -> None:
    count = FrameCount()
    count.ask()
    for block in (SILENCE, SILENCE[:0], ramp(1, 100), ramp(101, 100)):
        count.note(block)
    ((number, frames),) = [(mark.number, mark.frames) for mark in count.marks]
    assert (number, frames) == (100, 150)


def test_a_count_that_nobody_asks_looks_at_no_sample() -> None:
    class Unseen:
        def __len__(self) -> int:
            return 100

    count = FrameCount()
    count.note(Unseen())  # type: ignore[arg-type]  # no array: whoever looks fails
    count.ask()
    count.note(ramp(1, 10))
    assert count.marks[0].frames == 110


def test_cycles_that_never_came_are_missing_by_the_time() -> None:
    found = Read.between(Mark(0, 1, 0), Mark(1_000_000_000, 36_001, 36_000))
    assert (found.lost, found.due, found.share) == (0, 48_000, 0.75)


def test_frames_that_were_lost_are_missing_though_time_was_short() -> None:
    assert Read.between(Mark(0, 1, 0), Mark(1_000_000, 1001, 750)).share == 0.75


def test_a_log_leaves_the_marks_that_a_count_leaves() -> None:
    log = BlockLog()
    sounds = (SILENCE, ramp(1, 100), SILENCE, ramp(101, 100))
    for ms, block in enumerate(sounds):
        log.note(ms * 1_000_000, block)
    assert marks_of(log._blocks) == [Mark(1_000_000, 100, 150), Mark(3_000_000, 200, 300)]
    asked = counted(*sounds[1:])
    assert [mark.number for mark in asked] == [100, 200]
    assert asked[1].frames - asked[0].frames == 150


# --- turns ---------------------------------------------------------------------------------------


def test_contenders_take_turns_and_another_begins_each_round() -> None:
    asked: list[str] = []

    def measure(name: str) -> int:
        asked.append(name)
        return len(asked)

    turns = take_turns(["a", "b", "c"], measure, 3, "test")
    assert "".join(asked) == "abcbcacab"
    assert turns["a"] == [1, 6, 8]


def test_ratios_and_differences_are_taken_within_a_round() -> None:
    turns = Turns({"ours": [1.0, 20.0, 3.0], "floor": [1.0, 10.0, 1.0]})
    assert turns.ratio("ours", "floor", float) == Spread(2, 1, 3)
    assert turns.difference("ours", "floor", float) == Spread(2, 0, 10)
    assert turns.spread("ours", float).text(1) == "3.0 (1.0 to 20.0)"


def test_packets_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    save([b"one", b"", b"three"], tmp_path / "packets")
    assert load(tmp_path / "packets") == [b"one", b"", b"three"]


# --- answers -------------------------------------------------------------------------------------


def answer(*, holds: bool) -> Answer:
    return Answer(
        name="ring",
        question="How fast?",
        how="So.",
        header=("who", "ms"),
        rows=[("stagebox", "1.00")],
        targets=[Target("at most 2", "1.00", holds)],
        panels=[Panel("time", "ms", {"stagebox": [1.0, 2.0, 1.5]})],
        figures={"stagebox": [np.float64(1)]},
        machine="2 cores",
        date="2026-11-22",
    )


def test_an_answer_is_a_table_figures_and_a_picture(tmp_path: Path) -> None:
    answer(holds=True).write(tmp_path)
    text = (tmp_path / "ring.md").read_text()
    assert "| who | ms |\n| --- | --- |\n| stagebox | 1.00 |\n" in text
    assert "- reached: at most 2: 1.00" in text
    assert "2026-11-22, 2 cores." in text
    assert json.loads((tmp_path / "ring.json").read_text())["figures"] == {"stagebox": [1]}
    assert (tmp_path / "ring.png").read_bytes().startswith(b"\x89PNG")


def test_a_summary_names_what_was_missed(tmp_path: Path) -> None:
    answer(holds=False).write(tmp_path)
    assert "**missed:** at most 2: 1.00" in summarise(tmp_path)


@pytest.mark.parametrize(("holds", "status"), [(True, 0), (False, 1)])
def test_a_script_says_by_its_status_whether_all_was_reached(
    holds: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Options] = []
    monkeypatch.setattr(sys, "argv", ["x", "--rounds", "2", "--output", str(tmp_path)])

    def ask(options: Options) -> Answer:
        asked.append(options)
        return answer(holds=holds)

    assert run(ask, "Doc.") == status
    assert asked[0].rounds == 2
    assert not asked[0].scratch.exists()


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--scale", "0"], ["--scale", "nan"]])
def test_wrong_options_are_wrong_usage(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *options])
    with pytest.raises(SystemExit) as exit_:
        run(lambda _: answer(holds=True), "Doc.")
    assert exit_.value.code == 2
    assert "use " in capsys.readouterr().err


@pytest.mark.parametrize("script", [*SCRIPTS, "quick", "__main__"])
def test_every_script_has_help_with_its_command(script: str) -> None:
    name = "benchmarks" if script == "__main__" else f"benchmarks.{script}"
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(rf"python -m benchmarks(\.{script})?\b", done.stdout)
