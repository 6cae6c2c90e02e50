"""`stagebox monitor` on a real daemon: what is measured is what plays, and stays as it was."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.kit.cpu import cpu_s
from stagebox import SAMPLE_RATE, open_audio_capture, open_virtual_mic
from stagebox.cli.monitor import as_json
from stagebox.errors import GraphClosed
from stagebox.meters import Meters
from stagebox.testing import PrivateGraph
from tests.conftest import wait_until
from tests.graph.commands import Command, run, running, with_a_terminal
from tests.graph.conftest import Applications, recorded_mic, speak, tone, wait_for_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stagebox import AudioCapturer
    from stagebox.mic import PipeWireMic

    Row = dict[str, Any]
    Rows = list[Row]

LOUD = tone(440, 60)
"""0.5 of full scale: peaks at -6.0 dBFS, -9.0 RMS."""
QUIET = LOUD * np.float32(0.1)
"""-26.0 and -29.0 dBFS."""
VOICE = LOUD * np.float32(0.5)
"""-12.0 and -15.1 dBFS."""

ROW = {"kind", "id", "name", "pid", "running"}
ROW |= {"peak_dbfs", "rms_dbfs", "lost_frames", "underruns", "latency_ms"}


@pytest.fixture(scope="module")
def graph() -> Iterator[PrivateGraph]:
    with PrivateGraph() as graph:
        graph.add_sink("headset")
        yield graph


@pytest.fixture
def applications(graph: PrivateGraph, tmp_path: Path) -> Iterator[Applications]:
    running = Applications(graph, tmp_path)
    yield running
    running.stop()


@contextmanager
def monitoring(graph: PrivateGraph) -> Iterator[Command]:
    with running(graph, "monitor", "--json", traced=False) as command:
        yield command


@contextmanager
def measuring(graph: PrivateGraph) -> Iterator[Meters]:
    """What the command shows, in our own process."""
    with Meters(remote=graph.remote) as meters:
        yield meters


def rows_of(source: Command | Meters) -> Rows:
    """The rows of the next line."""
    if isinstance(source, Meters):
        return [json.loads(as_json(reading)) for reading in source.read()]
    assert source.process.stdout is not None
    told: dict[str, Any] = json.loads(source.process.stdout.readline())
    return list(told["rows"])


def wait_for_rows(source: Command | Meters, what: str, are_right: Callable[[Rows], object]) -> Rows:
    seen: list[Rows] = []

    def look() -> object:
        seen[:] = [rows_of(source)]
        return are_right(seen[0])

    wait_until(what, look)
    return seen[0]


def row_of(rows: Rows, name: str) -> Row:
    return next(
        (row for row in rows if row["name"] == name),
        {"peak_dbfs": None, "rms_dbfs": None, "running": None},
    )


def is_at(row: Row, peak_dbfs: float, rms_dbfs: float) -> bool:
    """Whether it has that level, within 1 dB."""
    levels: list[float | None] = [row["peak_dbfs"], row["rms_dbfs"]]
    wanted = (peak_dbfs, rms_dbfs)
    return all(
        level is not None and abs(level - near) < 1
        for level, near in zip(levels, wanted, strict=True)
    )


@contextmanager
def spoken(mic: PipeWireMic, pcm: NDArray[np.float32], block_frames: int = 480) -> Iterator[None]:
    """Have somebody push that for as long as the block lasts."""
    over = threading.Event()
    speaker = threading.Thread(target=speak, args=(mic, pcm, block_frames, over.is_set))
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


def pass_time(desk: AudioCapturer, frames: int) -> None:
    """Have the graph play so many frames."""
    assert len(desk.read(frames, timeout=10)) == frames


# --- what is shown -------------------------------------------------------------------------------


def test_the_desktop_each_application_and_the_mic_have_the_level_of_their_sound(
    graph: PrivateGraph, applications: Applications
) -> None:
    loud = applications.play(LOUD, target=graph.sink, name="loud")
    broken = QUIET.copy()
    broken[::1000] = np.nan
    quiet = applications.play(broken, target="headset", name="quiet")
    with (
        recorded_mic(applications) as (mic, _),
        spoken(mic, VOICE),
        monitoring(graph) as command,
    ):
        rows = wait_for_rows(
            command,
            "the levels",
            lambda rows: (
                is_at(row_of(rows, graph.sink), -6, -9)
                and is_at(row_of(rows, "loud"), -6, -9)
                and is_at(row_of(rows, "quiet"), -26, -29)
                and is_at(row_of(rows, "stagebox-mic"), -12, -15)
            ),
        )
    assert [(row["kind"], row["name"], row["pid"]) for row in rows] == [
        ("desktop", graph.sink, None),
        ("application", "loud", loud.pid),
        ("application", "quiet", quiet.pid),
        ("mic", "stagebox-mic", None),
    ]
    assert all(set(row) == ROW and row["running"] for row in rows)
    assert all(0 < row["latency_ms"] < 1000 for row in rows if row["kind"] != "mic")
    assert [row["underruns"] is None for row in rows] == [True, True, True, False]


def test_rows_come_and_go_with_what_they_measure(
    graph: PrivateGraph, applications: Applications
) -> None:
    with measuring(graph) as meters:
        (desktop,) = rows_of(meters)
        assert not desktop["running"]
        assert desktop["peak_dbfs"] is desktop["latency_ms"] is None
        names = [f"player-{number}" for number in range(5)]  # wider than one tap is at first
        players = [applications.play(QUIET, target=graph.sink, name=name) for name in names]
        rows = wait_for_rows(
            meters,
            "all of them",
            lambda rows: all(is_at(row_of(rows, name), -26, -29) for name in names),
        )
        assert sorted(row["name"] for row in rows[1:]) == names
        for player in players:
            player.kill()
        with open_virtual_mic(name="comes", remote=graph.remote):
            wait_for_rows(meters, "it", lambda rows: [r["name"] for r in rows[1:]] == ["comes"])
        wait_for_rows(meters, "its end", lambda rows: len(rows) == 1 and not rows[0]["running"])


def test_the_desktop_is_the_default_sink_whichever_that_is(
    private_graph: PrivateGraph, tmp_path: Path
) -> None:
    private_graph.add_sink("second")
    applications = Applications(private_graph, tmp_path)
    applications.play(QUIET, target="second", name="player")
    try:
        with monitoring(private_graph) as command:
            rows = wait_for_rows(
                command, "the second's", lambda rows: is_at(row_of(rows, "player"), -26, -29)
            )
            assert (rows[0]["name"], rows[0]["running"]) == (private_graph.sink, False)
            private_graph.configure_default("sink", "second")
            rows = wait_for_rows(command, "the second", lambda rows: is_at(rows[0], -26, -29))
            assert rows[0]["name"] == "second"
            private_graph.kill()
            code, _, err = command.ended()
    finally:
        applications.stop()
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("stagebox: the PipeWire daemon is gone: ")


def test_a_listener_that_somebody_removes_comes_again(
    graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(LOUD, target=graph.sink, name="player")
    with measuring(graph) as meters:
        wait_for_rows(meters, "sound", lambda rows: is_at(row_of(rows, "player"), -6, -9))
        remove = ["pw-cli", "destroy", "stagebox-capture"]
        subprocess.run(remove, env=graph.env, stdout=subprocess.DEVNULL, check=True)
        applications.play(QUIET, target=graph.sink, name="later")
        wait_for_rows(
            meters,
            "both",
            lambda rows: (
                is_at(row_of(rows, "player"), -6, -9) and is_at(row_of(rows, "later"), -26, -29)
            ),
        )


def test_what_the_graph_skips_is_counted_as_lost(
    graph: PrivateGraph, applications: Applications
) -> None:
    player = applications.play(LOUD, target=graph.sink, name="player")
    with (
        monitoring(graph) as command,
        open_audio_capture(quantum_frames=1024, remote=graph.remote) as desk,
    ):
        wait_for_rows(command, "sound", lambda rows: is_at(row_of(rows, "player"), -6, -9))
        before = row_of(rows_of(command), "player")["lost_frames"]
        command.signal(signal.SIGSTOP)
        desk.drain()
        pass_time(desk, SAMPLE_RATE)
        command.signal(signal.SIGCONT)
        wait_for_rows(
            command,
            "the loss",
            lambda rows: row_of(rows, "player")["lost_frames"] - before > SAMPLE_RATE // 2,
        )
        assert player.poll() is None


def test_a_microphone_tells_its_underruns_whichever_process_presents_it(
    graph: PrivateGraph, applications: Applications
) -> None:
    with recorded_mic(applications) as (mic, _), monitoring(graph) as command:
        mic.set_target_frames(1)
        with spoken(mic, VOICE, block_frames=100):  # less than a quantum
            wait_until("underruns", lambda: mic.stats.underruns > 10)
        wait_for_rows(
            command,
            "what it told",
            lambda rows: row_of(rows, "stagebox-mic").get("underruns") == mic.stats.underruns,
        )


def test_lines_come_twenty_times_a_second_for_as_long_as_is_wanted(graph: PrivateGraph) -> None:
    code, out, err = run(graph, "monitor", "--json", "--seconds", "0.5")
    assert (code, err) == (0, "")
    times_ns = [json.loads(line)["time_ns"] for line in out.splitlines()]
    assert 1 <= len(times_ns) <= 10
    ticks = [(time_ns - times_ns[0]) / 50e6 for time_ns in times_ns]
    assert all(abs(tick - round(tick)) < 0.01 for tick in ticks)


def test_a_pipe_gets_a_table_each_second_and_needs_no_extra(graph: PrivateGraph) -> None:
    code, out, err = run(graph, "monitor", "--seconds", "1")
    assert (code, err) == (0, "")
    title, row, empty = out.decode().split("\n", 2)
    assert title.split() == ["kind", "name", "pid", "peak", "rms", "lost", "underruns", "ms"]
    assert row.split() == ["desktop", graph.sink, "0"]
    assert empty.strip() == ""


def test_a_terminal_gets_bars_that_are_drawn_over_until_ctrl_c(
    graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(LOUD, target=graph.sink, name="player")
    with with_a_terminal(graph, "monitor", traced=False) as (command, read):
        shown = read()
        while b"-6.0" not in shown or "━".encode() not in shown:
            shown += read()
        command.signal(signal.SIGINT)
        shown += b"".join(iter(read, b""))
        assert command.process.wait(10) == 130
    assert shown.index(b"\x1b[?25l") < shown.index(b"\x1b[1A") < shown.rindex(b"\x1b[?25h")
    assert b" player " in shown


def test_meters_that_are_closed_measure_no_more(graph: PrivateGraph) -> None:
    meters = Meters(remote=graph.remote)
    meters.close()
    meters.close()
    with pytest.raises(GraphClosed):
        meters.read()


def test_without_a_daemon_it_is_one_line(graph: PrivateGraph) -> None:
    code, out, err = run(graph, "monitor", "--remote", "no-such-daemon")
    assert (code, out) == (1, b"")
    assert err.startswith("stagebox: no PipeWire daemon is running")
    assert err.count("\n") == 1


# --- what stays as it was ------------------------------------------------------------------------


def test_an_unrecorded_microphone_stays_unrecorded(
    graph: PrivateGraph, applications: Applications
) -> None:
    with open_virtual_mic(remote=graph.remote) as mic, monitoring(graph) as command:
        assert mic.push(VOICE[:480])
        for _ in range(10):
            row = row_of(rows_of(command), "stagebox-mic")
            assert (row["running"], row["peak_dbfs"], row["latency_ms"]) == (False, None, None)
        assert (mic.stats.state, mic.stats.quantum, mic.stats.depth) == ("idle", 0, 480)
        with applications.recording(), spoken(mic, VOICE):
            wait_for_recorder(mic)
            wait_for_rows(
                command, "its level", lambda rows: is_at(row_of(rows, "stagebox-mic"), -12, -15)
            )
        wait_until("the end of the recording", lambda: mic.stats.state == "idle")
        wait_for_rows(command, "it", lambda rows: not row_of(rows, "stagebox-mic")["running"])


def test_an_application_that_plays_into_nothing_any_more_stops(
    graph: PrivateGraph, applications: Applications
) -> None:
    applications.play_level("headset", np.float32(0.5))

    def application(rows: Rows) -> Row:
        return next(row for row in rows if row["kind"] == "application")

    with measuring(graph) as meters:
        wait_for_rows(meters, "sound", lambda rows: is_at(application(rows), -6, -6))
        name = application(rows_of(meters))["name"]
        for side in ("FL", "FR"):
            unlink = ["pw-link", "-d", f"{name}:output_{side}", f"headset:playback_{side}"]
            subprocess.run(unlink, env=graph.env, check=True)
        wait_for_rows(meters, "its end", lambda rows: not application(rows)["running"])


def test_a_sink_that_nobody_plays_into_stops(
    graph: PrivateGraph, applications: Applications
) -> None:
    with measuring(graph) as meters:
        player = applications.play(LOUD, target=graph.sink, name="player")
        wait_for_rows(meters, "sound", lambda rows: is_at(rows[0], -6, -9))
        player.kill()
        wait_for_rows(meters, "its end", lambda rows: not rows[0]["running"])


def test_the_graph_keeps_its_quantum(graph: PrivateGraph, applications: Applications) -> None:
    applications.play(LOUD, target=graph.sink, name="player")
    with open_audio_capture(quantum_frames=512, remote=graph.remote) as desk:
        wait_until("its quantum", lambda: len(desk.next_chunk()) and desk.stats.quantum == 512)
        with measuring(graph) as meters:
            wait_for_rows(meters, "sound", lambda rows: is_at(rows[0], -6, -9))
            desk.drain()
            for _ in range(20):
                pass_time(desk, 512)
                assert desk.stats.quantum == 512


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.alone
def test_it_takes_less_than_2_percent_of_a_processor(
    graph: PrivateGraph,
    applications: Applications,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """The best of some windows: what others on this machine do makes all that runs dearer."""
    windows = rounds(0, 8)
    if not windows:
        pytest.skip("a time of a machine that does nothing else: with --full")

    def force_quantum(frames: int) -> None:
        setting = ["pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(frames)]
        subprocess.run(setting, env=graph.env, stdout=subprocess.DEVNULL, check=True)

    force_quantum(1024)
    names = [f"player-{number}" for number in range(4)]
    for name in names:
        applications.play(QUIET, target=graph.sink, name=name)
    with (
        recorded_mic(applications) as (mic, _),
        spoken(mic, VOICE),
        monitoring(graph) as command,
    ):
        wait_for_rows(
            command,
            "all levels",
            lambda rows: (
                is_at(row_of(rows, "stagebox-mic"), -12, -15)
                and all(is_at(row_of(rows, name), -26, -29) for name in names)
            ),
        )

        def percent() -> float:
            begin_s = cpu_s(command.process.pid)
            for _ in range(40):
                rows_of(command)
            return (cpu_s(command.process.pid) - begin_s) / 2 * 100

        best = 100.0
        for _ in range(windows):
            best = min(best, percent())
            if best < 2:
                break
    force_quantum(0)
    figure(f"{best:.1f} % of a processor for a desktop, four applications and a microphone")
    assert best < 2
