"""`stagebox devices`, `apps` and `doctor` on a real daemon."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stagebox.testing import PrivateGraph
from tests.conftest import wait_until
from tests.graph.commands import Command, on_a_terminal, run, running, with_a_terminal
from tests.graph.conftest import Applications

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "a-sink-whose-name-is-longer-than-a-terminal-of-eighty-columns-that-wants-to-show-it.pro"
SILENCE = np.zeros((48_000 * 30, 2), np.float32)


@pytest.fixture(scope="module")
def graph() -> Iterator[PrivateGraph]:
    with PrivateGraph() as graph:
        graph.add_sink("five", 6)
        graph.add_sink("seven", 8)
        graph.add_sink(LONG)
        graph.add_source("line-in")
        wait_until("a default source", lambda: graph.default("source") == "line-in")
        yield graph


@pytest.fixture
def applications(graph: PrivateGraph, tmp_path: Path) -> Iterator[Applications]:
    running = Applications(graph, tmp_path)
    yield running
    running.stop()


def listed(graph: PrivateGraph, command: str) -> list[dict[str, Any]]:
    code, out, err = run(graph, command, "--json")
    assert (code, err) == (0, "")
    items: list[dict[str, Any]] = json.loads(out)
    return items


# --- once ----------------------------------------------------------------------------------------


def test_devices_are_sinks_then_sources_with_their_channels_and_the_defaults(
    graph: PrivateGraph,
) -> None:
    devices = listed(graph, "devices")
    assert [(device["kind"], device["name"], device["channels"]) for device in devices] == [
        ("sink", "stagebox-sink", 2),
        ("sink", "five", 6),
        ("sink", "seven", 8),
        ("sink", LONG, 2),
        ("source", "line-in", 2),
    ]
    default = [device["name"] for device in devices if device["default"]]
    assert default == [graph.default("sink"), "line-in"]
    keys = {"kind", "id", "name", "description", "channels", "state", "default"}
    assert all(set(device) == keys for device in devices)


def test_apps_say_who_plays_what_into_what(graph: PrivateGraph, applications: Applications) -> None:
    player = applications.play(SILENCE, target="five")
    applications.play(SILENCE, target=None, name="unlinked")
    wait_until(
        "both, one playing",
        lambda: sorted(app["playing"] for app in listed(graph, "apps")) == [False, True],
    )
    playing = next(app for app in listed(graph, "apps") if app["playing"])
    unlinked = next(app for app in listed(graph, "apps") if not app["playing"])
    assert playing["pid"] == player.pid
    assert playing["binary"] in {"pw-play", "pw-cat"}
    assert playing["media_name"]
    assert playing["plays_into"] == ["five"]
    assert unlinked["plays_into"] == []
    keys = {"kind", "id", "name", "binary", "pid", "media_name", "plays_into", "playing"}
    assert set(playing) == set(unlinked) == keys


def test_where_nothing_plays_the_list_is_empty(graph: PrivateGraph) -> None:
    wait_until("the end of what played before", lambda: listed(graph, "apps") == [])
    code, out, err = run(graph, "apps")
    assert (code, out, err) == (0, b"name  binary  pid  media  plays into  state\n", "")
    assert "no application plays" in on_a_terminal(graph, "apps")[1]


def test_a_pipe_gets_whole_names_without_colours(graph: PrivateGraph) -> None:
    code, out, err = run(graph, "devices", env={"COLUMNS": "40", "FORCE_COLOR": "1"})
    assert (code, err) == (0, "")
    title, *rows = out.decode().splitlines()
    assert title.split() == ["kind", "name", "description", "channels", "state"]
    assert len(rows) == 5
    assert f"  sink    {LONG}  {LONG}  2" in next(row for row in rows if LONG in row)
    assert [row.split()[2] for row in rows if row.startswith("*")] == [
        graph.default("sink"),
        "line-in",
    ]
    assert b"\x1b" not in out


def test_a_terminal_gets_a_table_that_fits_and_leaves_nothing_out(graph: PrivateGraph) -> None:
    code, shown = on_a_terminal(graph, "devices")
    assert code == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.splitlines()]
    assert lines[0].startswith("╭")
    assert max(map(len, lines)) <= 80
    names = [line.split("│")[3].strip() for line in lines if line.startswith("│")]
    assert LONG in "".join(names)


@pytest.mark.parametrize("command", ["devices", "apps", "doctor"])
def test_into_a_pipe_no_extra_is_needed(graph: PrivateGraph, command: str) -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(('rich', 'soundfile', 'soxr')))"
    program = f"{absent}; from stagebox.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, command], env=graph.env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["devices", "apps"])
@pytest.mark.parametrize("option", ["--json", "--watch"])
def test_without_a_daemon_it_is_one_line(graph: PrivateGraph, command: str, option: str) -> None:
    code, out, err = run(graph, command, option, "--remote", "no-such-daemon")
    assert (code, out) == (1, b"")
    assert err.startswith("stagebox: no PipeWire daemon is running")
    assert err.count("\n") == 1


def test_a_remote_is_another_daemon(graph: PrivateGraph) -> None:
    with PrivateGraph() as other:
        code, out, _ = run(graph, "devices", "--json", "--remote", other.remote)
        assert code == 0
        assert [device["name"] for device in json.loads(out)] == ["stagebox-sink"]


# --- live ----------------------------------------------------------------------------------------


def event(command: Command) -> dict[str, Any]:
    """The next line of `--json --watch`."""
    assert command.process.stdout is not None
    told: dict[str, Any] = json.loads(command.process.stdout.readline())
    return told


def event_of(command: Command, kind: str, name: str) -> dict[str, Any]:
    """The next event of that kind about what has that name."""
    while True:
        told = event(command)
        if told["event"] == kind and told.get("item", told)["name"] == name:
            return told


@contextlib.contextmanager
def watching(graph: PrivateGraph, command: str) -> Iterator[Command]:
    """Follow as JSON lines from the moment on in which all that is there has been told."""
    count = len(listed(graph, command))
    with running(graph, command, "--watch", "--json", traced=False) as watching:
        assert [event(watching)["event"] for _ in range(count)] == ["present"] * count
        yield watching


def test_watching_tells_of_a_sink_that_comes_and_goes_until_ctrl_c(graph: PrivateGraph) -> None:
    with watching(graph, "devices") as command:
        graph.add_sink("comes", 6)
        item = event_of(command, "added", "comes")["item"]
        assert (item["kind"], item["channels"], item["default"]) == ("sink", 6, False)
        graph.remove("comes")
        assert event_of(command, "removed", "comes")["item"]["id"] == item["id"]
        command.signal(signal.SIGINT)
        code, _, err = command.ended()
    assert (code, err) == (130, "")


def test_watching_tells_of_another_default(private_graph: PrivateGraph) -> None:
    private_graph.add_sink("second")
    with watching(private_graph, "devices") as command:
        private_graph.configure_default("sink", "second")
        told = event_of(command, "default", "second")
        assert told == {"event": "default", "kind": "sink", "name": "second"}


def test_watching_apps_tells_of_applications_alone(
    graph: PrivateGraph, applications: Applications
) -> None:
    wait_until("the end of what played before", lambda: listed(graph, "apps") == [])
    applications.play(SILENCE, target=None, name="there-already")
    wait_until("it", lambda: listed(graph, "apps"))
    with watching(graph, "apps") as command:
        graph.add_sink("not-an-application")
        player = applications.play(SILENCE, target="seven")
        told = [event(command)]
        while not (told[-1]["item"]["playing"] and told[-1]["item"]["plays_into"]):
            told.append(event(command))
        assert told[0]["event"] == "added"
        assert told[-1]["item"]["plays_into"] == ["seven"]
        player.kill()
        while told[-1]["event"] != "removed":
            told.append(event(command))
        graph.remove("not-an-application")
    assert {each["item"]["pid"] for each in told} == {player.pid}


def test_a_pipe_gets_the_table_anew_at_each_change(graph: PrivateGraph) -> None:
    with running(graph, "devices", "--watch", traced=False) as command:
        output = command.process.stdout
        assert output is not None

        def table() -> bytes:
            return b"".join(iter(output.readline, b"\n"))

        assert b"  comes  " not in table()
        graph.add_sink("comes")
        while b"  comes  " not in (shown := table()):
            pass
        assert b"  stagebox-sink  " in shown
        graph.remove("comes")
        while b"  comes  " in table():
            pass
        command.signal(signal.SIGINT)
        code, _, err = command.ended()
    assert (code, err) == (130, "")


def test_a_terminal_is_drawn_over_at_each_change_and_given_back(graph: PrivateGraph) -> None:
    with with_a_terminal(graph, "devices", "--watch", traced=False) as (command, read):
        shown = read()
        graph.add_sink("comes")
        while b" comes " not in shown:
            shown += read()
        command.signal(signal.SIGINT)
        shown += b"".join(iter(read, b""))
        assert command.process.wait(10) == 130
    graph.remove("comes")
    hidden, up, visible = b"\x1b[?25l", b"\x1b[1A", b"\x1b[?25h"
    assert shown.index(hidden) < shown.index(up) < shown.index(b" comes ") < shown.rindex(visible)


@pytest.mark.parametrize("options", [["--watch"], ["--watch", "--json"]])
def test_a_daemon_that_goes_ends_the_watching_in_one_line(
    private_graph: PrivateGraph, options: list[str]
) -> None:
    with running(private_graph, "devices", *options) as command:
        assert command.process.stdout is not None
        assert command.process.stdout.readline()
        private_graph.kill()
        code, _, err = command.ended()
    assert code == 1
    assert err.startswith("stagebox: the PipeWire daemon is gone: ")
    assert err.count("\n") == 1


def test_watching_ends_quietly_when_nobody_reads_on(graph: PrivateGraph) -> None:
    with watching(graph, "devices") as command:
        assert command.process.stdout is not None
        command.process.stdout.close()
        graph.add_sink("unread")
        assert command.process.wait(5) == 0
        assert command.line() == ""
    graph.remove("unread")


# --- doctor --------------------------------------------------------------------------------------


def examined(graph: PrivateGraph, code: int, *arguments: object) -> dict[str, dict[str, str]]:
    """What the doctor finds, by the check's name."""
    ended, out, err = run(graph, "doctor", "--json", *arguments)
    assert (ended, err) == (code, ""), out.decode()
    return {finding["check"]: finding for finding in json.loads(out)}


def follow_advice(graph: PrivateGraph, finding: dict[str, str]) -> None:
    subprocess.run(
        ["sh", "-c", finding["fix"]],
        env=graph.env,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def test_a_healthy_graph_has_nothing_wrong(graph: PrivateGraph) -> None:
    found = examined(graph, 0)
    statuses = {check: finding["status"] for check, finding in found.items()}
    statuses.pop("real-time")  # depends on who we are
    assert set(statuses.values()) == {"ok"}
    assert found["socket"]["found"] == graph.remote
    assert found["session-manager"]["found"] == "WirePlumber"
    assert found["default-sink"]["found"].startswith(f"{graph.default('sink')}, ")
    assert found["driver"]["found"] == f"{graph.default('sink')} drives, at 48000 Hz"
    core = next(entry for entry in graph.dump() if entry["type"].endswith(":Core"))
    assert found["daemon"]["found"] == f"PipeWire {core['info']['version']} answers"
    assert re.fullmatch(r"libpipewire \d+\.\d+\.\d+", found["libpipewire"]["found"])


def test_the_doctor_tells_people_the_same_in_a_line_each(graph: PrivateGraph) -> None:
    found = examined(graph, 0)
    code, out, err = run(graph, "doctor")
    assert (code, err) == (0, "")
    lines = out.decode().splitlines()
    assert [line.split()[:2] for line in lines] == [
        [finding["status"], check] for check, finding in found.items()
    ]


def test_real_time_is_what_the_data_thread_really_has(graph: PrivateGraph) -> None:
    may = subprocess.run(["chrt", "--fifo", "1", "true"], capture_output=True, check=False)
    if may.returncode != 0:
        pytest.skip("this user gets no real-time priority without rtkit, which may or may not be")
    finding = examined(graph, 0)["real-time"]
    assert finding["status"] == "ok"
    assert finding["found"].startswith("the data thread has SCHED_")


def test_the_doctor_leaves_nothing_in_the_graph(graph: PrivateGraph) -> None:
    before = graph.node_names()
    examined(graph, 0)
    wait_until("its capture to go", lambda: graph.node_names() == before)


def test_an_unusual_quantum_is_a_warning_whose_advice_helps(graph: PrivateGraph) -> None:
    subprocess.run(
        ["pw-metadata", "-n", "settings", "0", "clock.force-quantum", "16"],
        env=graph.env,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    finding = examined(graph, 0)["settings"]
    assert finding["status"] == "warning"
    assert "quantum forced to 16 frames" in finding["found"]
    follow_advice(graph, finding)
    assert examined(graph, 0)["settings"]["status"] == "ok"


def test_without_a_sink_something_is_wrong_and_the_advice_makes_one(
    private_graph: PrivateGraph,
) -> None:
    private_graph.remove("stagebox-sink")
    finding = examined(private_graph, 1)["default-sink"]
    assert (finding["status"], finding["found"]) == ("wrong", "there is no sink: nothing can play")
    follow_advice(private_graph, finding)
    wait_until("a default sink", lambda: private_graph.default("sink") == "null-sink")
    found = examined(private_graph, 0)
    assert found["default-sink"]["found"] == "null-sink, 2 channels"
    assert found["driver"]["status"] == "ok"


# --- a default that is ours for now --------------------------------------------------------------


@pytest.fixture
def chosen(private_graph: PrivateGraph) -> str:
    """A sink that the user has chosen."""
    private_graph.add_sink("headset")
    private_graph.configure_default("sink", "headset")
    wait_until("its choice", lambda: private_graph.default("sink") == "headset")
    return "headset"


@contextlib.contextmanager
def own_sink_recorded(graph: PrivateGraph) -> Iterator[Command]:
    with running(graph, "record", "--own-sink", "-") as command:
        assert command.process.stdout is not None
        assert command.process.stdout.read(1)
        yield command


def test_what_a_killed_record_has_left_is_found_and_restored(
    private_graph: PrivateGraph, chosen: str
) -> None:
    with own_sink_recorded(private_graph) as command:
        held = examined(private_graph, 0)["claims"]["found"]
        assert held == "the default sink is stagebox-own-sink while that is open"
        told = b"the default sink is held by stagebox-own-sink, which is in use\n"
        assert run(private_graph, "restore") == (0, told, "")
        command.process.kill()
    left = examined(private_graph, 1)["claims"]
    assert (left["status"], left["fix"]) == ("wrong", "stagebox restore")
    assert run(private_graph, "restore")[0] == 0
    assert examined(private_graph, 0)["claims"]["status"] == "ok"
    assert private_graph.default("sink") == chosen
    assert run(private_graph, "restore") == (0, b"nothing to put back\n", "")


def test_a_record_that_is_interrupted_has_put_it_back(
    private_graph: PrivateGraph, chosen: str
) -> None:
    with own_sink_recorded(private_graph) as command:
        assert private_graph.default("sink") == "stagebox-own-sink"
        command.signal(signal.SIGTERM)
        assert command.ended()[0] == 128 + signal.SIGTERM
    assert private_graph.default("sink") == chosen


def test_restore_says_what_it_has_put_back(private_graph: PrivateGraph, chosen: str) -> None:
    with own_sink_recorded(private_graph) as command:
        command.process.kill()
    told = f"the default sink is {chosen} again\n"
    assert run(private_graph, "restore") == (0, told.encode(), "")


def test_without_a_session_manager_the_doctor_names_it(private_graph: PrivateGraph) -> None:
    private_graph.processes[-1].kill()
    private_graph.processes[-1].wait()
    wait_until("its end", lambda: private_graph.default("sink") is None)
    found = examined(private_graph, 1)
    assert [check for check in found if found[check]["status"] == "wrong"] == ["session-manager"]
    assert "wireplumber" in found["session-manager"]["fix"]


def test_without_a_daemon_the_doctor_names_it(private_graph: PrivateGraph) -> None:
    private_graph.kill()
    found = examined(private_graph, 1)
    assert [check for check in found if found[check]["status"] == "wrong"] == ["daemon"]
    assert "pipewire" in found["daemon"]["fix"]
    found = examined(private_graph, 1, "--remote", "no-such-daemon")
    assert [check for check in found if found[check]["status"] == "wrong"] == ["socket"]
    assert "no-such-daemon" in found["socket"]["found"]
    assert found["daemon"]["status"] == "unknown"


def test_a_daemon_that_does_not_answer_is_wrong(private_graph: PrivateGraph) -> None:
    daemon = private_graph.processes[1]
    daemon.send_signal(signal.SIGSTOP)
    try:
        found = examined(private_graph, 1)
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert "did not answer" in found["daemon"]["found"]
