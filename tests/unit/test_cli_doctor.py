"""What the doctor makes of what there is, without a daemon."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stagebox import (
    CaptureStats,
    CodecError,
    DaemonAbsent,
    PipeWireUnavailable,
    claims,
    opus,
)
from stagebox.claims import Holder
from stagebox.cli import checks, doctor, main
from stagebox.cli.checks import Finding, Trial
from stagebox.graph import Daemon, Sink, Snapshot, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAEMON = Daemon("1.4.2", "WirePlumber", 48_000, 1024, 32, 2048, 0, 0)
UNMANAGED = replace(DAEMON, session_manager=None)
SPEAKERS = Sink(10, "speakers", "Speakers", 2, "idle")
LINE_IN = Source(12, "line-in", "Line In", 1, "running")
HEALTHY = Snapshot((SPEAKERS,), (LINE_IN,), (), SPEAKERS, LINE_IN)
NO_DEFAULTS = replace(HEALTHY, default_sink=None, default_source=None)
EMPTY = Snapshot((), (), (), None, None)
STATS = CaptureStats(1024, 0, 0, 1, 1024, 0, 48_000, 44_100, "streaming", 10)


def no(error: Exception) -> Callable[[], str]:
    def raising() -> str:
        raise error

    return raising


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which programs are installed."""
    installed: set[str] = set()
    monkeypatch.setattr(
        shutil, "which", lambda name: f"/usr/bin/{name}" if name in installed else None
    )
    return installed


@pytest.fixture
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_has_systemd", lambda: False)


# --- libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manager", "fixes"),
    [
        ("apt-get", ["sudo apt-get install libopus0", "sudo apt-get install libpipewire-0.3-0"]),
        ("dnf", ["sudo dnf install opus", "sudo dnf install pipewire-libs"]),
        ("pacman", ["sudo pacman -S opus", "sudo pacman -S libpipewire"]),
        ("unknown", ["", ""]),
    ],
)
def test_a_missing_library_is_installed_the_distributions_way(
    monkeypatch: pytest.MonkeyPatch, programs: set[str], manager: str, fixes: list[str]
) -> None:
    programs.add(manager)
    monkeypatch.setattr(opus, "libopus_version", no(CodecError("no libopus")))
    monkeypatch.setattr(checks, "libpipewire_version", no(PipeWireUnavailable("no libpipewire")))
    found = [checks.libopus(), checks.libpipewire()]
    assert [(each.status, each.found) for each in found] == [
        ("wrong", "no libopus"),
        ("wrong", "no libpipewire"),
    ]
    assert [each.fix for each in found] == fixes


def test_libraries_say_their_versions() -> None:
    assert checks.libopus().found.startswith("libopus ")
    assert checks.libpipewire().found.startswith("libpipewire ")


def test_without_the_library_nothing_asks_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "libpipewire_version", no(PipeWireUnavailable("no libpipewire")))
    found = {each.check: each for each in checks.findings(None)}
    assert found["daemon"] == Finding("daemon", "unknown", "there is no libpipewire")
    assert found["real-time"].status == "unknown"


# --- claims -------------------------------------------------------------------------------------

HERE = Holder("source", "stagebox-mic", here=True)
LEFT = Holder("sink", "stagebox-own-sink", here=False)


def test_a_default_that_was_left_is_wrong_and_put_back() -> None:
    assert checks.held([], None).found == "no default is changed by us"
    assert checks.held([HERE], None) == Finding(
        "claims", "ok", "the default source is stagebox-mic while that is open"
    )
    found = "a killed program has left the default sink (stagebox-own-sink)"
    assert checks.held([HERE, LEFT], None) == Finding("claims", "wrong", found, "stagebox restore")
    assert checks.held([LEFT], "a b").fix == "stagebox restore --remote 'a b'"


def test_a_ledger_that_cannot_be_read_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = PermissionError(13, "Permission denied", "defaults.json")
    monkeypatch.setattr(claims, "holders", lambda _: no(error)())
    found = "defaults.json: Permission denied"
    assert checks.claimed(None) == Finding("claims", "wrong", found)


# --- the daemon ---------------------------------------------------------------------------------


def test_a_socket_is_where_it_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "pipewire-0"
    missing = checks.socket(str(path))
    assert (missing.status, missing.found) == ("wrong", f"none at {path}")
    path.touch()
    assert checks.socket(str(path)) == Finding("socket", "ok", str(path))


def test_a_socket_of_another_user_is_not_for_us(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.F_OK)
    found = checks.socket(str(tmp_path))
    assert found.status == "wrong"
    assert "is another user's" in found.found


@pytest.mark.usefixtures("no_systemd")
def test_how_a_daemon_is_started(
    monkeypatch: pytest.MonkeyPatch, programs: set[str], tmp_path: Path
) -> None:
    def fix(remote: str | None) -> str:
        return checks.no_daemon(DaemonAbsent("gone"), remote).fix

    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert fix(None) == f"export XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
    programs.add("apt-get")
    assert fix("/a/socket") == "sudo apt-get install pipewire wireplumber"
    programs.add("pipewire")
    assert fix("/a/socket") == "pipewire &"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert fix(None) == "pipewire &"
    monkeypatch.setattr(checks, "_has_systemd", lambda: True)
    assert fix(None) == "systemctl --user start pipewire wireplumber"


def test_a_daemon_that_does_not_answer_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_has_systemd", lambda: True)
    found = checks.no_daemon(PipeWireUnavailable("it did not answer"), None)
    assert found.found == "it did not answer"
    assert found.fix == "systemctl --user restart pipewire wireplumber"


@pytest.mark.usefixtures("no_systemd")
def test_how_a_session_manager_is_started(
    monkeypatch: pytest.MonkeyPatch, programs: set[str]
) -> None:
    assert checks.session_manager(DAEMON) == Finding("session-manager", "ok", "WirePlumber")
    programs.add("dnf")
    assert checks.session_manager(UNMANAGED).fix == "sudo dnf install wireplumber"
    programs.add("wireplumber")
    assert checks.session_manager(UNMANAGED).fix == "wireplumber &"
    monkeypatch.setattr(checks, "_has_systemd", lambda: True)
    assert checks.session_manager(UNMANAGED).fix == "systemctl --user start wireplumber"


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("daemon", "snapshot", "sink", "source"),
    [
        (DAEMON, HEALTHY, ("ok", ""), ("ok", "")),
        (DAEMON, NO_DEFAULTS, ("wrong", "wpctl"), ("warning", "stagebox")),
        (DAEMON, EMPTY, ("wrong", "pw-cli"), ("warning", "stagebox")),
        (UNMANAGED, NO_DEFAULTS, ("unknown", ""), ("unknown", "")),
        (UNMANAGED, EMPTY, ("wrong", "pw-cli"), ("unknown", "")),
    ],
)
def test_defaults(
    daemon: Daemon, snapshot: Snapshot, sink: tuple[str, str], source: tuple[str, str]
) -> None:
    for found, expected in (
        (checks.default_sink(daemon, snapshot), sink),
        (checks.default_source(daemon, snapshot), source),
    ):
        assert (found.status, found.fix.partition(" ")[0]) == expected


# --- the graph's time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_hz", "quantum", "keys"),
    [
        (0, 0, []),
        (44_100, 256, []),
        (0, 16, ["clock.force-quantum"]),
        (0, 8192, ["clock.force-quantum"]),
        (8000, 0, ["clock.force-rate"]),
        (22_050, 32, ["clock.force-quantum", "clock.force-rate"]),
    ],
)
def test_only_what_is_forced_and_unusual_is_a_warning(
    rate_hz: int, quantum: int, keys: list[str]
) -> None:
    daemon = replace(DAEMON, forced_rate_hz=rate_hz, forced_quantum_frames=quantum)
    found = checks.settings(daemon)
    assert found.status == ("warning" if keys else "ok")
    assert found.fix == "; ".join(f"pw-metadata -n settings 0 {key} 0" for key in keys)
    assert ("nothing forced" in found.found) == (not rate_hz and not quantum)


@pytest.mark.parametrize(
    ("stats", "flows", "status", "words"),
    [
        (STATS, True, "ok", "speakers drives, at 44100 Hz"),
        (replace(STATS, driver_id=99), True, "ok", "node 99 drives, at 44100 Hz"),
        (replace(STATS, driver_id=None), True, "ok", "at 44100 Hz"),
        (replace(STATS, quanta=0), True, "wrong", "nothing drives its sink"),
        (replace(STATS, quanta=0), False, "unknown", "no default sink"),
    ],
)
def test_who_drives(stats: CaptureStats, flows: bool, status: str, words: str) -> None:
    found = checks.driver(Trial(stats, None), HEALTHY, flows=flows)
    assert found.status == status
    assert words in found.found


def test_real_time() -> None:
    found = checks.real_time(Trial(STATS, (os.SCHED_RR, 20)))
    assert found == Finding("real-time", "ok", "the data thread has SCHED_RR, priority 20")


@pytest.mark.parametrize("has_rtkit", [False, True])
def test_no_real_time_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, programs: set[str], tmp_path: Path, has_rtkit: bool
) -> None:
    programs.add("apt-get")
    monkeypatch.setattr(checks, "_RTKIT", str(tmp_path if has_rtkit else tmp_path / "none"))
    found = checks.real_time(Trial(STATS, None))
    assert found.status == "warning"
    assert "RLIMIT_RTPRIO is " in found.found
    assert ("rtprio 95" if has_rtkit else "sudo apt-get install rtkit") in found.fix


# --- the command --------------------------------------------------------------------------------


def test_a_line_says_how_it_is_and_what_mends_it() -> None:
    assert doctor.told(Finding("socket", "ok", "/a")) == "ok       socket           /a"
    wrong = Finding("daemon", "wrong", "none\n listens", "start it")
    assert doctor.told(wrong) == "WRONG    daemon           none listens; fix: start it"


@pytest.mark.parametrize(
    ("status", "code"), [("ok", 0), ("warning", 0), ("unknown", 0), ("wrong", 1)]
)
def test_only_what_is_wrong_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Any, code: int
) -> None:
    found = Finding("socket", status, "somehow")
    monkeypatch.setattr(checks, "findings", lambda _: iter([found, Finding("daemon", "ok", "")]))
    assert main(["doctor"]) == code
    assert len(capsys.readouterr().out.splitlines()) == 2
