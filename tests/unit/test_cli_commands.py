"""The command line without a daemon: usage, what fails, and the pace of packets."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import stagebox_command
from stagebox import PipeWireUnavailable
from stagebox.cli import entry, main, options, programs, record, terminal, uplink
from stagebox.cli.meter import Meter, peaks_dbfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `stagebox` in an interpreter where `code` comes first."""
    program = f"import sys; {code}; from stagebox.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )


# --- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["record"],
        ["mic"],
        ["devices"],
        ["apps"],
        ["monitor"],
        ["doctor"],
        ["restore"],
        ["demo"],
    ],
)
def test_every_help_has_one_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert text.count("example:\n  stagebox ") == 1
    assert max(map(len, text.splitlines())) <= 100


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("stagebox 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["play"],
        ["record"],
        ["record", "--channels", "3", "x.wav"],
        ["record", "--seconds", "0", "x.wav"],
        ["record", "--seconds", "nan", "x.wav"],
        ["record", "--seconds", "1e308", "x.wav"],
        ["record", "--seconds", "soon", "x.wav"],
        ["mic", "--channels", "6", "x.wav"],
        ["devices", "sink"],
        ["apps", "--json=yes"],
        ["doctor", "--watch"],
        ["restore", "sink"],
        ["record", "--own-sink", "--app", "music", "x.wav"],
        ["monitor", "--seconds", "0"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: stagebox" in capsys.readouterr().err


def test_a_length_of_sound() -> None:
    assert options.seconds("1.5") == 1.5
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        options.seconds("0.000001")


def test_help_needs_no_extra() -> None:
    absent = "[sys.modules.update({name: None}) for name in ('rich', 'soundfile', 'matplotlib')]"
    done = run_python(absent, "--help")
    assert done.returncode == 0
    assert "demo" in done.stdout


# --- what fails: one line, exit 1 ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("soundfile", "cli", ["record", "x.wav"]),
        ("soundfile", "cli", ["mic", "x.wav"]),
        ("rich.console", "cli", ["demo"]),
        ("matplotlib.figure", "demo", ["demo"]),
    ],
)
def test_a_missing_extra_says_how_to_get_it(module: str, extra: str, arguments: list[str]) -> None:
    done = run_python(f"sys.modules[{module!r}] = None", *arguments)
    assert done.returncode == 1
    assert done.stderr.endswith(f"is not installed: pip install 'stagebox[{extra}]'\n")
    assert done.stderr.count("\n") == 1


def test_a_table_on_a_terminal_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delitem(sys.modules, "stagebox.cli.table", raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ModuleNotFoundError):
        terminal.print_table(("name",), [], "nothing")
    with pytest.raises(ModuleNotFoundError):
        terminal.live_table(("name",), "nothing")


def test_another_missing_module_is_our_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise ModuleNotFoundError("No module named 'colour'", name="colour")

    monkeypatch.setattr(record, "run", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["record", "x.wav"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["record", "x.mp3"], "x.mp3: the extension says the format: use one of .wav, .flac, .ogg"),
        (["record", "nowhere/x.wav"], "nowhere: No such file or directory"),
        (["mic", "missing.wav"], "missing.wav: No such file or directory"),
        (["mic", "--loop", "-"], "--loop needs a file: a pipe cannot be played again"),
        (["demo", "--seconds", "99"], "--seconds: use 1 to 60, not 99.0"),
    ],
)
def test_an_expected_failure_is_one_line(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert capsys.readouterr() == ("", f"stagebox: {text}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["record", "mic"])
def test_no_daemon_is_one_line_and_no_file(
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if command == "mic":
        soundfile.write("x.wav", np.zeros((100, 2)), 48_000)
    before = list(tmp_path.iterdir())
    assert main([command, "--remote", str(tmp_path / "none"), "x.wav"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("stagebox: no PipeWire daemon is running")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == before


def test_samples_do_not_go_to_or_come_from_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["record", "-"]) == 1
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["mic", "-"]) == 1
    assert capsys.readouterr().err.count("is a terminal") == 2


def test_a_long_message_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_: object) -> int:
        raise PipeWireUnavailable("did not come up\npipewire.log:  no\n")

    monkeypatch.setattr(record, "run", failing)
    assert main(["record", "x.wav"]) == 1
    assert capsys.readouterr().err == "stagebox: did not come up pipewire.log: no\n"


def test_ctrl_c_before_a_command_runs_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> argparse.ArgumentParser:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_parser", interrupted)
    assert stagebox_command.main() == 130


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(record, "run", interrupted)
    assert main(["record", "x.wav"]) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_unwinds(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def ended(_: object) -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            closed.append(True)
        return 0

    monkeypatch.setattr(record, "run", ended)
    with pytest.raises(SystemExit) as exit_:
        main(["record", "x.wav"])
    assert exit_.value.code == 128 + number
    assert closed
    assert signal.getsignal(number) is signal.SIG_DFL


def test_an_ignored_signal_stays_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with entry._ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_the_demo_says_which_package_has_its_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PipeWireUnavailable, match=r"pw-play and pw-record: install pipewire-bin"):
        programs.require_programs()


# --- packets ------------------------------------------------------------------------------------


class Clock:
    """Time that passes only when somebody sleeps, or is told to be busy."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(uplink, "time", clock)
    return clock


def handed_over(clock: Clock, busy_s: dict[int, float], count: int = 60) -> list[float]:
    """When each packet comes, in ms, if the work before packet k takes busy_s[k]."""

    def packets() -> Iterator[int]:
        for number in range(count):
            clock.now += busy_s.get(number, 0.003)
            yield number

    begin = clock.now
    return [round(1000 * (clock.now - begin), 3) for _ in uplink.paced(packets())]


def test_packets_come_every_20_ms_without_drift(clock: Clock) -> None:
    times = handed_over(clock, {})
    assert times == [3.0, *(20.0 * k for k in range(1, 60))]


def test_a_short_stall_is_made_up_for(clock: Clock) -> None:
    times = handed_over(clock, {10: 0.15})
    assert times[10] == 330.0
    assert times[-1] == 20.0 * 59


def test_a_long_stall_is_skipped_and_makes_no_burst(clock: Clock) -> None:
    times = handed_over(clock, {10: 1.0})
    assert times[10] == 1180.0
    assert times[11:] == [1180.0 + 20 * k for k in range(1, 50)]


@pytest.mark.parametrize("lengths", [[], [1], [960], [961, 5], [100] * 30, [5000]])
def test_packets_hold_everything_and_then_silence(lengths: list[int]) -> None:
    blocks = [np.full((length, 2), 1 + n, np.float32) for n, length in enumerate(lengths)]
    packets = list(uplink.in_packets(blocks, 2, silent_packets=3))
    assert {packet.shape for packet in packets} == {(960, 2)}
    assert all(packet.flags.c_contiguous for packet in packets)
    assert len(packets) == -(-sum(lengths) // 960) + 3
    joined = np.concatenate(packets)
    assert np.array_equal(joined[: sum(lengths)], np.concatenate([*blocks, np.empty((0, 2))]))
    assert not joined[sum(lengths) :].any()


# --- what is shown ------------------------------------------------------------------------------


def test_peaks() -> None:
    pcm = np.array([[0, 0.5, -1], [0, -0.1, 0]], np.float32)
    assert peaks_dbfs(pcm) == pytest.approx([-60, -6.02, 0], abs=0.01)
    assert peaks_dbfs(pcm[:0]) == pytest.approx([-60] * 3)
    broken = np.array([[np.nan, np.inf, 1.0]], np.float32)
    assert peaks_dbfs(broken) == pytest.approx([-60, -60, 0])


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.meter(("FL", "FR"), 1.0) as display:
        assert not isinstance(display, Meter)
        display.update(np.ones((10, 2), np.float32), 0.5, "fine")
    assert capsys.readouterr() == ("", "")


def test_a_level_falls_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("stagebox.cli.meter.time", clock)
    meter = Meter(("FL",), None)
    loud, quiet = np.ones((10, 1), np.float32), np.zeros((10, 1), np.float32)
    with meter:
        clock.now += 1
        meter.update(loud, 1.0, "")
        assert meter._levels[0] == pytest.approx(-24)
        clock.now += 0.5
        meter.update(quiet, 1.5, "")
        assert meter._levels[0] == pytest.approx(-36)
        clock.now += 5
        meter.update(quiet, 6.5, "")
        assert meter._levels[0] == -60


def test_the_meter_is_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(terminal.meter(("FL",), 1.0), Meter)
