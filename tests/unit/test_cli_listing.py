"""Tables and JSON of what is in a graph, without one."""

from __future__ import annotations

import pytest

from stagebox.cli import apps, devices
from stagebox.cli.listing import Seen, told_of
from stagebox.cli.terminal import plain_table, shown
from stagebox.graph import (
    Added,
    Application,
    Change,
    Changed,
    DefaultChanged,
    Item,
    Removed,
    Sink,
    Snapshot,
    Source,
)

SPEAKERS = Sink(10, "speakers", "Speakers", 2, "idle")
HEADSET = Sink(11, "headset", "Headset", 0, "suspended")
LINE_IN = Source(12, "line-in", "Line In", 1, "running")
MUSIC = Application(20, "Music", "music", 77, "A song", ("speakers", "headset"), playing=True)
SILENT = Application(21, "Silent", "", 0, "", (), playing=False)
SNAPSHOT = Snapshot((SPEAKERS, HEADSET), (LINE_IN,), (MUSIC,), SPEAKERS, None)


@pytest.fixture
def seen() -> Seen:
    return Seen(SNAPSHOT)


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "is_default", "row"),
    [
        (SPEAKERS, True, ("*", "sink", "speakers", "Speakers", "2", "idle")),
        (HEADSET, False, ("", "sink", "headset", "Headset", "?", "suspended")),
        (LINE_IN, False, ("", "source", "line-in", "Line In", "1", "running")),
    ],
)
def test_a_device_in_a_row(device: Item, is_default: bool, row: tuple[str, ...]) -> None:
    assert devices.LISTING.row(device, is_default) == row


def test_an_application_in_a_row_says_nothing_where_it_does_not() -> None:
    row = ("Music", "music", "77", "A song", "speakers, headset", "playing")
    assert apps.LISTING.row(MUSIC, False) == row
    assert apps.LISTING.row(SILENT, False) == ("Silent", "", "", "", "", "paused")


# --- plain tables -------------------------------------------------------------------------------


def test_columns_begin_below_each_other_whatever_is_in_them() -> None:
    rows = [("a name", "1", "x"), ("音楽", "22", ""), ("e\u0301t\u0301", "", "y")]
    assert plain_table(("name", "n", "last"), rows).splitlines() == [
        "name    n   last",
        "a name  1   x",
        "音楽    22",
        "e\u0301t\u0301          y",
    ]


def test_no_name_commands_a_terminal() -> None:
    assert shown("a\x1b[2Jb\nc\x9bd") == "a\ufffd[2Jb\ufffdc\ufffdd"
    assert "\x1b" not in plain_table(("name",), [("\x1b]0;title\x07",)])


def test_emoji_and_joined_scripts_stay_whole() -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    assert shown(family) == family


# --- what has been seen -------------------------------------------------------------------------


def test_a_listing_has_its_kinds_one_after_the_other(seen: Seen) -> None:
    assert seen.of(devices.LISTING) == [SPEAKERS, HEADSET, LINE_IN]
    assert seen.of(apps.LISTING) == [MUSIC]


def test_changes_make_of_it_what_there_is(seen: Seen) -> None:
    running = Sink(10, "speakers", "Speakers", 2, "running")
    added = Source(13, "mic", "Mic", 1, "idle")
    for change in (Changed(SPEAKERS, running), Removed(HEADSET), Added(added)):
        seen.apply(change)
    assert seen.of(devices.LISTING) == [running, LINE_IN, added]


def test_a_sink_and_a_source_that_are_one_node_are_two() -> None:
    sink, source = Sink(10, "both", "Both", 2, "idle"), Source(10, "both", "Both", 2, "idle")
    seen = Seen(Snapshot((sink,), (source,), (), None, source))
    assert [seen.is_default(item) for item in seen.of(devices.LISTING)] == [False, True]
    seen.apply(Removed(sink))
    assert seen.of(devices.LISTING) == [source]


def test_the_default_moves(seen: Seen) -> None:
    assert [seen.is_default(item) for item in (SPEAKERS, HEADSET)] == [True, False]
    seen.apply(DefaultChanged("sink", "headset"))
    assert [seen.is_default(item) for item in (SPEAKERS, HEADSET)] == [False, True]
    seen.apply(DefaultChanged("sink", None))
    assert not seen.is_default(HEADSET)


def test_an_application_as_json_is_no_default(seen: Seen) -> None:
    assert seen.as_json(MUSIC) == {
        "kind": "application",
        "id": 20,
        "name": "Music",
        "binary": "music",
        "pid": 77,
        "media_name": "A song",
        "plays_into": ("speakers", "headset"),
        "playing": True,
    }


# --- changes as JSON ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "event"),
    [
        (Added(SILENT), "added"),
        (Removed(MUSIC), "removed"),
        (Changed(MUSIC, SILENT), "changed"),
    ],
)
def test_a_change_is_told_where_it_is_listed(seen: Seen, change: Change, event: str) -> None:
    (told,) = told_of(change, seen, apps.LISTING)
    assert told["event"] == event
    assert list(told_of(change, Seen(SNAPSHOT), devices.LISTING)) == []


def test_a_default_is_told_and_is_so_from_then_on(seen: Seen) -> None:
    told = list(told_of(DefaultChanged("sink", "headset"), seen, devices.LISTING))
    assert told == [{"event": "default", "kind": "sink", "name": "headset"}]
    assert seen.is_default(HEADSET)
    assert list(told_of(DefaultChanged("sink", None), seen, apps.LISTING)) == []


def test_what_has_gone_is_told_as_it_was(seen: Seen) -> None:
    (told,) = told_of(Removed(SPEAKERS), seen, devices.LISTING)
    assert told["item"]["default"]
    assert seen.of(devices.LISTING) == [HEADSET, LINE_IN]
