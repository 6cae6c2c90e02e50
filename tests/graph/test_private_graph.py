"""The private graph keeps its promises: what it makes works, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stagebox import PipeWireUnavailable, StageboxError
from stagebox.testing import PrivateGraph
from tests.conftest import untraced, wait_until


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"


def test_nothing_is_left_after_the_block() -> None:
    with PrivateGraph() as graph:
        directory = graph.directory
        pids = [process.pid for process in graph.processes]
        assert len(pids) == 3
        assert all(map(exists, pids))
    assert not any(map(exists, pids))
    assert not directory.exists()


def test_nothing_is_left_after_an_exception_in_the_block() -> None:
    def fail() -> None:
        with graph:
            directories.append(graph.directory)
            raise KeyError

    graph = PrivateGraph()
    directories: list[Path] = []
    with pytest.raises(KeyError):
        fail()
    assert not directories[0].exists()


ENDLESS = """
import sys, time
from stagebox.testing import PrivateGraph
with PrivateGraph() as graph:
    print(graph.directory, *(p.pid for p in graph.processes), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_its_interpreter_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        env=untraced(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as user:
        assert user.stdout
        directory, *pids = user.stdout.readline().split()
        user.send_signal(number)
    wait_until("the daemons' end", lambda: not any(exists(int(pid)) for pid in pids))
    wait_until("the directory's end", lambda: not Path(directory).exists())


def test_the_sink_is_the_default_when_the_block_begins() -> None:
    with PrivateGraph() as graph:
        assert graph.default("sink") == graph.sink == "stagebox-sink"
        assert graph.default("source") in {None, graph.sink}  # its monitor, at most


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_the_sink_has_the_channels_that_were_asked_for(channels: int) -> None:
    with PrivateGraph(channels) as graph:
        (sink,) = [
            entry["info"]
            for entry in graph.dump()
            if entry.get("info", {}).get("props", {}).get("node.name") == graph.sink
        ]
    assert sink["n-input-ports"] == channels


def test_other_sinks_and_sources_come_back_after_a_restart() -> None:
    with PrivateGraph() as graph:
        graph.add_sink("second", 6)
        graph.add_source("line-in")
        _, daemon, manager = graph.processes
        graph.kill()
        assert not exists(daemon.pid)
        assert not exists(manager.pid)
        graph.restart()
        assert set(graph.node_names()) == {graph.sink, "second", "line-in"}
        graph.remove("second")
        graph.restart()
        assert set(graph.node_names()) == {graph.sink, "line-in"}


def test_the_users_own_settings_stay_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIPEWIRE_CORE", "PIPEWIRE_CONFIG_DIR", "PULSE_SERVER", "WIREPLUMBER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    with PrivateGraph(rate_hz=44_100) as graph:
        assert "PULSE_SERVER" not in graph.env
        settings = subprocess.run(
            ["pw-metadata", "-n", "settings"],
            env=graph.env,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "key:'clock.rate' value:'44100'" in settings.stdout


def test_two_graphs_know_nothing_of_each_other() -> None:
    with PrivateGraph() as one, PrivateGraph() as other:
        one.add_sink("mine")
        assert other.node_names() == [other.sink]
        assert one.remote != other.remote


def test_programs_in_its_environment_use_it() -> None:
    with PrivateGraph() as graph:
        done = subprocess.run(
            ["pw-cli", "ls", "Node"], env=graph.env, capture_output=True, text=True, check=True
        )
    assert graph.sink in done.stdout


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipeWireUnavailable, match=r"needs .*wireplumber.*apt-get install dbus"):
        PrivateGraph().start()


def test_a_daemon_that_cannot_start_is_an_error_with_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "pipewire"
    broken.write_text("#!/bin/sh\necho no luck today\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:  # a socket's path is short
        monkeypatch.setattr(tempfile, "tempdir", scratch)
        with pytest.raises(PipeWireUnavailable, match="no luck today"):
            PrivateGraph().start()
        assert not list(Path(scratch).iterdir())


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2, 6, 8\], not 3"):
        PrivateGraph(3)


@pytest.mark.parametrize("name", ["5.1", "42", "1e3", "true", "", 'a"b', "a b"])
def test_a_name_that_pw_dump_would_not_give_back_is_refused(
    private_graph: PrivateGraph, name: str
) -> None:
    with pytest.raises(ValueError, match="name must begin with a letter"):
        private_graph.add_sink(name)


def test_outside_of_its_block_it_says_so() -> None:
    with pytest.raises(StageboxError, match="context manager"):
        _ = PrivateGraph().remote
