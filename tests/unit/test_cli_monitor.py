"""Meters as lines, on a terminal and as JSON, without a graph."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace

import pytest

from stagebox.cli.bars import FALL_DB_PER_S, FLOOR_DBFS, Bars, Needle, bar, cells_of
from stagebox.cli.monitor import as_json
from stagebox.cli.screen import Screen
from stagebox.cli.terminal import cells
from stagebox.meters import APPLICATION, DESKTOP, MICROPHONE, Reading, Subject, dbfs

SIZE = os.terminal_size((80, 24))

DESK = Reading(Subject(DESKTOP, 3, "speakers", None, True), -6.0, -9.03, 1024, None, 21.3)
MUSIC = Reading(Subject(APPLICATION, 4, "Music", 77, True), -30.0, -33.0, 0, None, 21.3)
PAUSED = Reading(Subject(APPLICATION, 5, "音楽 and a long name", 8, False))
MIC = Reading(Subject(MICROPHONE, 6, "stagebox-mic", None, True), -12.0, -15.0, 96, 3, 10.0)
ALL = [DESK, MUSIC, PAUSED, MIC]


def lines_of(readings: list[Reading], width: int = 80) -> list[str]:
    return Bars(coloured=False).lines(readings, 0.0, width)


def test_an_amplitude_in_db() -> None:
    assert dbfs(1.0) == 0
    assert dbfs(0.5) == pytest.approx(-6.02, abs=0.01)
    assert dbfs(0.0) is None


# --- needles and bars ---------------------------------------------------------------------------


def test_a_needle_rises_at_once_and_falls_slowly() -> None:
    needle = Needle()
    needle.move(-6.0, 10.0)
    assert needle.level_dbfs == -6.0
    needle.move(None, 10.5)
    assert needle.level_dbfs == pytest.approx(-6.0 - FALL_DB_PER_S / 2)
    needle.move(-12.0, 10.5)
    assert needle.level_dbfs == -12.0
    needle.move(None, 20.0)
    assert needle.level_dbfs == FLOOR_DBFS


def test_the_highest_level_is_held_for_a_moment() -> None:
    needle = Needle()
    needle.move(-6.0, 10.0)
    needle.move(-30.0, 11.4)
    assert needle.held_dbfs == -6.0
    needle.move(-30.0, 11.6)
    assert needle.held_dbfs == needle.level_dbfs == -30.0


@pytest.mark.parametrize(
    ("level_dbfs", "filled"), [(-90.0, 0), (FLOOR_DBFS, 0), (-30.0, 5), (0.0, 10), (6.0, 10)]
)
def test_a_level_fills_its_part_of_a_bar(level_dbfs: float, filled: int) -> None:
    assert cells_of(max(level_dbfs, FLOOR_DBFS), 10) == filled


def test_a_bar_marks_the_highest_level_above_the_present_one() -> None:
    assert bar(3, 3, 6) == "━━━   "
    assert bar(3, 5, 6) == "━━━ │ "
    assert bar(0, 6, 6) == "     │"


# --- lines --------------------------------------------------------------------------------------


def test_each_reading_is_a_line_below_a_title() -> None:
    title, *lines = lines_of(ALL)
    assert title.split() == ["peak", "rms", "lost", "underruns", "ms"]
    assert [re.sub("━+", "━", line).split() for line in lines] == [
        ["desktop", "speakers", "━", "-6.0", "-9.0", "1024", "21"],
        ["app", "Music", "77", "━", "-30.0", "-33.0", "0", "21"],
        ["app", "音楽", "and", "a", "long…", "8", "paused", "0"],
        ["mic", "stagebox-mic", "━", "-12.0", "-15.0", "96", "3", "10"],
    ]


@pytest.mark.parametrize("width", [120, 80, 60, 30, 10, 1])
def test_no_line_is_as_wide_as_the_terminal(width: int) -> None:
    assert all(cells(line) < width for line in lines_of(ALL, width))


def test_a_narrow_terminal_leaves_out_figures_but_cuts_none() -> None:
    title, desk, *_ = lines_of([DESK], 60)
    assert title.split() == ["peak", "rms"]
    assert desk.split()[-2:] == ["-6.0", "-9.0"]


def test_without_a_sink_the_desktop_says_so() -> None:
    line = lines_of([Reading(Subject(DESKTOP, None, "", None, False))])[1]
    assert line.split() == ["desktop", "no", "default", "sink", "idle", "0"]


def test_a_level_has_its_colour() -> None:
    shown = Bars(coloured=True).lines([DESK, MUSIC, MIC], 0.0, 80)
    assert [re.findall(r"\x1b\[(\d+)m", line) for line in shown] == [
        [],
        ["31", "0"],
        ["32", "0"],
        ["33", "0"],
    ]


def test_no_name_commands_the_terminal() -> None:
    bad = replace(MUSIC, of=replace(MUSIC.of, name="\x1b]0;title\x07"))
    assert "\x1b" not in "".join(lines_of([bad]))


def test_bars_move_at_once_and_digits_a_few_times_a_second() -> None:
    bars = Bars(coloured=False)
    bars.lines([MUSIC], 0.0, 80)
    loud = replace(MUSIC, peak_dbfs=-1.0, rms_dbfs=-2.0)
    soon = bars.lines([loud], 0.05, 80)[1]
    assert soon.count("━") == 10
    assert "-33.0" in soon
    for draw in range(4):
        later = bars.lines([loud], 0.1 + draw / 20, 80)[1]
    assert "-2.0" in later


# --- the screen ---------------------------------------------------------------------------------


def drawn(screen: Screen, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    screen.draw(lines, SIZE)
    return capsys.readouterr().out


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: SIZE)
    return Screen()


def test_only_what_changed_is_written(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(screen, capsys, "a", "b", "c") == "\x1b[Ja\x1b[K\r\nb\x1b[K\r\nc\x1b[K\r\n"
    assert drawn(screen, capsys, "a", "B", "c") == "\x1b[2AB\x1b[K\r\x1b[2B"
    assert drawn(screen, capsys, "a", "B", "c") == ""


def test_other_lines_are_drawn_over_the_last_ones(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(screen, capsys, "a", "b", "c")
    assert drawn(screen, capsys, "a") == "\x1b[3A\x1b[Ja\x1b[K\r\n"


def test_a_terminal_of_another_size_is_drawn_anew(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(screen, capsys, "a", "b", "c")
    screen.draw(["a", "b", "c"], os.terminal_size((40, 3)))
    assert capsys.readouterr().out == "\x1b[2J\x1b[Ha\x1b[K\r\nb\x1b[K\r\n"


def test_the_cursor_comes_back(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), screen:
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "\x1b[?25l\x1b[?25h"


# --- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reading", [*ALL, replace(MUSIC, of=replace(MUSIC.of, name='"\\\n\N{SNOWMAN}'))]
)
def test_what_json_tells_is_what_was_read(reading: Reading) -> None:
    told = asdict(reading)
    assert json.loads(as_json(reading)) == {**told.pop("of"), **told}
