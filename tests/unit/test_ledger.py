"""Who has claimed a default, and what it was before."""

from __future__ import annotations

import logging
import multiprocessing
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagebox import StageboxError, ledger
from stagebox.graph_state import name_in
from stagebox.ledger import OWN_SINK, Entry, Held, Settled, choice_of, claimed, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    Act = Callable[["Desktop"], None]

DAEMON = "/run/user/1000/pipewire-0"
SPEAKERS, HEADSET, FIRST, SECOND = map(choice_of, ("speakers", "headset", "first", "second"))


# --- the rules ------------------------------------------------------------------------------


def held(name: str) -> Held:
    return Held(f"token of {name}", name)


def here(*names: str) -> dict[str, str]:
    return {held(name).token: name for name in names}


def entry(*names: str, before: str | None = SPEAKERS) -> Entry:
    return Entry(before, "speakers", tuple(map(held, names)))


@pytest.mark.parametrize("before", [SPEAKERS, None])
def test_the_last_claim_gives_back_what_was_before(before: str | None) -> None:
    assert settled(entry("first", before=before), FIRST, here()) == Settled(None, before)


def test_the_newest_claim_gives_it_back_to_the_one_before() -> None:
    both = entry("first", "second")
    assert settled(both, SECOND, here("first")) == Settled(entry("first"), FIRST)


def test_an_older_claim_ends_without_a_change() -> None:
    both = entry("first", "second")
    assert settled(both, SECOND, here("second")) == Settled(entry("second"), SECOND)


def test_claims_of_one_name_are_two() -> None:
    both = Entry(None, None, (Held("old", "mic"), Held("new", "mic")))
    for ended, left in (("old", "new"), ("new", "old")):
        kept = replace(both, claims=(Held(left, "mic"),))
        here = {left: "mic"}
        assert settled(both, choice_of("mic"), here) == Settled(kept, choice_of("mic")), ended
    assert settled(both, choice_of("mic"), {"another's": "mic"}) == Settled(None, None)


@pytest.mark.parametrize("chosen", [HEADSET, None])
@pytest.mark.parametrize("left", [(), ("first",)])
def test_what_the_user_chose_meanwhile_stays_and_ends_all_claims(
    chosen: str | None, left: tuple[str, ...]
) -> None:
    assert settled(entry("first"), chosen, here(*left)) == Settled(None, chosen)


def test_a_sink_of_ours_that_a_session_manager_remembers_is_nobodys_choice() -> None:
    ours = choice_of(OWN_SINK)
    over = settled(entry(OWN_SINK), ours, here())
    assert over == Settled(entry(), SPEAKERS)
    assert over.entry is not None
    assert settled(over.entry, ours, here()) == Settled(entry(), SPEAKERS)  # it has come back
    assert settled(over.entry, SPEAKERS, here()) == Settled(None, SPEAKERS)
    another_ledgers = {"another's": OWN_SINK}
    assert settled(over.entry, ours, another_ledgers) == Settled(None, ours)


class Desktop:
    """One where sinks "1", "2"… claim the default, are closed or killed, and the user chooses."""

    def __init__(self) -> None:
        self.chosen = self.configured = choice_of("chosen")
        self.book: Entry | None = None
        self.alive: list[str] = []
        self._count = 0

    def start(self) -> None:
        """What all of ours begin with."""
        if self.book is not None:
            result = settled(self.book, self.configured, here(*self.alive))
            self.book, self.configured = result.entry, result.configured or ""

    def claim(self) -> None:
        self.start()
        self._count += 1
        self.alive.append(str(self._count))
        self.book = claimed(self.book or Entry(self.configured, None, ()), held(self.alive[-1]))
        self.configured = choice_of(self.alive[-1])

    def close_newest(self) -> None:
        self.alive = self.alive[:-1]
        self.start()

    def close_oldest(self) -> None:
        self.alive = self.alive[1:]
        self.start()

    def kill(self) -> None:
        self.alive = self.alive[:-1]

    def choose(self) -> None:
        self._count += 1
        self.chosen = self.configured = choice_of(f"chosen {self._count}")


ACTS = [
    Desktop.start,
    Desktop.claim,
    Desktop.close_newest,
    Desktop.close_oldest,
    Desktop.kill,
    Desktop.choose,
]


@given(st.lists(st.sampled_from(ACTS), max_size=40))
def test_whatever_happens_the_users_last_choice_comes_back(acts: list[Act]) -> None:
    desktop = Desktop()
    for act in acts:
        act(desktop)
        if act is not Desktop.kill:
            assert name_in(desktop.configured) in {*desktop.alive, name_in(desktop.chosen)}
    desktop.alive.clear()
    desktop.start()
    assert (desktop.book, desktop.configured) == (None, desktop.chosen)


# --- the file -------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stagebox" / "defaults.json"


def test_what_is_written_is_read(file: Path) -> None:
    with ledger.locked(file, DAEMON) as book:
        assert book.entry("sink") is None
        book.write("sink", entry("first", before=None))
        book.write("source", entry("mic"))
    with ledger.locked(file, "/another/daemon") as book:
        assert book.entry("sink") is None
        book.write("sink", entry("second"))
    assert ledger.entries(file, DAEMON) == {
        "sink": entry("first", before=None),
        "source": entry("mic"),
    }


def test_it_is_its_owners_alone_and_gone_when_nothing_is_in_it(file: Path) -> None:
    with ledger.locked(file, DAEMON) as book:
        book.write("sink", entry("first"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        book.write("sink", None)
    assert [path.name for path in file.parent.iterdir()] == ["defaults.lock"]


def test_a_write_that_fails_leaves_what_was_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with ledger.locked(file, DAEMON) as book:
        book.write("sink", entry("first"))
        monkeypatch.setattr("json.dump", fail)
        with pytest.raises(OSError, match="No space left"):
            book.write("sink", entry("second"))
        monkeypatch.undo()
        assert book.entry("sink") == entry("first")
        book.write("sink", entry("third"))
    assert ledger.entries(file, DAEMON) == {"sink": entry("third")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"/daemon": 5}',
        '{"/daemon": {"sink": {"before": 5, "device": null, "claims": []}}}',
        '{"/daemon": {"sink": {"before": null, "device": null, "claims": ["first"]}}}',
        '{"/daemon": {"sink": {"before": null, "device": null, "claims": [{"token": "a"}]}}}',
        '{"/daemon": {"sink": {"claims": ["first"]}}}',
        "\x00\xff",
    ],
)
def test_what_is_not_as_it_was_written_is_told_and_written_anew(
    file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with caplog.at_level(logging.WARNING), ledger.locked(file, DAEMON) as book:
        assert book.entry("sink") is None
        book.write("sink", entry("first"))
    assert f"{file} is not as it was written" in caplog.text
    assert ledger.entries(file, DAEMON) == {"sink": entry("first")}


def test_of_a_daemon_that_is_gone_only_what_is_claimed_is_kept(file: Path, tmp_path: Path) -> None:
    here, gone, claimed_there = (str(tmp_path / name) for name in ("here", "gone", "claimed"))
    Path(here).touch()
    for daemon, kept in ((here, entry()), (gone, entry()), (claimed_there, entry("first"))):
        with ledger.locked(file, daemon) as book:
            book.write("sink", kept)
    assert [ledger.entries(file, daemon) for daemon in (here, gone, claimed_there)] == [
        {"sink": entry()},
        {},
        {"sink": entry("first")},
    ]


def add_a_claim(file: Path, name: str) -> None:
    for number in range(10):
        with ledger.locked(file, DAEMON) as book:
            before = book.entry("sink") or Entry(None, None, ())
            book.write("sink", claimed(before, held(f"{name}-{number}")))


def test_threads_and_processes_take_turns(file: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers: list[Any] = [
        *(threading.Thread(target=add_a_claim, args=(file, f"t{at}")) for at in range(2)),
        *(spawn.Process(target=add_a_claim, args=(file, f"p{at}")) for at in range(2)),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(ledger.entries(file, DAEMON)["sink"].claims) == 40


def test_a_finalizer_amid_its_use_is_refused_at_once(file: Path) -> None:
    with (
        ledger.locked(file, DAEMON),
        pytest.raises(StageboxError, match="in use by this very thread"),
        ledger.locked(file, DAEMON),
    ):
        pass
    with ledger.locked(file, DAEMON):
        pass


def test_one_that_another_keeps_is_waited_for_but_not_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE_S", 0.05)
    refused: list[str] = []

    def knock() -> None:
        try:
            with ledger.locked(file, DAEMON):
                pass
        except StageboxError as error:
            refused.append(str(error))

    with ledger.locked(file, DAEMON):
        thread = threading.Thread(target=knock)
        thread.start()
        thread.join()
    assert "others have kept" in refused[0]


def test_without_a_home_there_is_nowhere_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobodys() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobodys)
    with pytest.raises(StageboxError, match="no directory to keep the defaults in: Could not"):
        ledger.path()


@pytest.mark.parametrize("state", [None, "", "relative/path"])
def test_it_is_in_the_state_directory_of_the_xdg_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert str(ledger.path()) == "/state/stagebox/defaults.json"
    if state is None:
        monkeypatch.delenv("XDG_STATE_HOME")
    else:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert ledger.path() == tmp_path / ".local/state/stagebox/defaults.json"
