"""Looking at a real graph."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import DaemonAbsent, GraphClosed, open_audio_capture, open_virtual_mic
from stagebox.graph import Added, Change, Changed, DefaultChanged, Graph, Removed, Sink
from tests.conftest import wait_until
from tests.footprint import Footprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stagebox.graph import Watch
    from stagebox.testing import PrivateGraph
    from tests.graph.conftest import Applications

MEBIBYTE_KIB = 1024
SILENCE = np.zeros((48_000 * 20, 2), np.float32)


@pytest.fixture
def graph(private_graph: PrivateGraph) -> Iterator[Graph]:
    with Graph(remote=private_graph.remote) as graph:
        yield graph


class Following(threading.Thread):
    """Collects what a watch tells, in a thread of its own."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self.changes: list[Change] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            for change in self._watch:
                self.changes.append(change)
        except DaemonAbsent as error:
            self.error = error

    def wait_for(self, what: str, is_it: Callable[[Change], bool]) -> None:
        wait_until(what, lambda: any(map(is_it, list(self.changes))))


def test_sinks_have_their_channels_and_the_default_is_one_of_them(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    private_graph.add_sink("five", 6)
    private_graph.add_sink("seven", 8)
    channels = {sink.name: sink.channels for sink in graph.sinks()}
    assert channels == {"stagebox-sink": 2, "five": 6, "seven": 8}
    assert graph.default_sink() in graph.sinks()


def test_a_source_is_there_and_our_microphone_too(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    private_graph.add_source("hardware")
    with open_virtual_mic(remote=private_graph.remote):
        assert [source.name for source in graph.sources()] == ["hardware", "stagebox-mic"]
        wait_until("it to be the default", lambda: graph.default_source() == graph.sources()[1])
        assert graph.sources()[1].description == "Stagebox Remote Microphone"
    assert [source.name for source in graph.sources()] == ["hardware"]


def test_an_application_says_who_it_is_and_where_it_plays(
    applications: Applications, graph: Graph
) -> None:
    player = applications.play(SILENCE, name="music")
    wait_until("it to play", lambda: any(found.playing for found in graph.applications()))
    (found,) = graph.applications()
    assert found.pid == player.pid
    assert found.binary in {"pw-play", "pw-cat"}
    assert found.plays_into == ("stagebox-sink",)
    assert found.media_name
    player.kill()
    wait_until("its end", lambda: not graph.applications())


def test_the_daemon_says_its_version_its_settings_and_who_manages_it(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    core = next(entry for entry in private_graph.dump() if entry["type"].endswith(":Core"))
    daemon = graph.daemon()
    assert daemon.version == core["info"]["version"]
    assert daemon.session_manager == "WirePlumber"
    assert (daemon.rate_hz, daemon.quantum_frames) == (48_000, 1024)
    assert daemon.min_quantum_frames < 1024 < daemon.max_quantum_frames
    assert (daemon.forced_rate_hz, daemon.forced_quantum_frames) == (0, 0)
    for key, value in (("clock.force-quantum", "256"), ("clock.force-rate", "44100")):
        subprocess.run(
            ["pw-metadata", "-n", "settings", "0", key, value],
            env=private_graph.env,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    daemon = graph.daemon()
    assert (daemon.forced_rate_hz, daemon.forced_quantum_frames) == (44_100, 256)
    private_graph.processes[-1].kill()
    wait_until("the manager's end", lambda: graph.daemon().session_manager is None)


def test_a_capture_knows_the_node_that_drives_it(private_graph: PrivateGraph, graph: Graph) -> None:
    private_graph.add_sink("second")
    ids = {sink.name: sink.id for sink in graph.sinks()}
    with open_audio_capture(target="second", remote=private_graph.remote) as capture:
        assert len(capture.read(4800)) == 4800
        assert capture.stats.driver_id == ids["second"]


def test_a_watch_says_what_there_was_before_its_first_change(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    watch = graph.watch()
    assert watch.pending == 0
    private_graph.add_sink("second")
    assert {sink.name for sink in graph.sinks()} == {"stagebox-sink", "second"}
    assert {sink.name for sink in watch.before.sinks} == {"stagebox-sink"}
    assert watch.pending >= 1
    assert isinstance(next(watch), Added)


def test_a_watch_tells_what_comes_plays_and_goes(
    private_graph: PrivateGraph, applications: Applications, graph: Graph
) -> None:
    following = Following(graph.watch())
    private_graph.add_sink("second")
    following.wait_for("the sink", lambda change: isinstance(change, Added))
    private_graph.configure_default("sink", "second")
    following.wait_for("the default", lambda change: change == DefaultChanged("sink", "second"))
    player = applications.play(SILENCE, target="second")
    following.wait_for(
        "it to play",
        lambda change: (
            isinstance(change, Changed)
            and isinstance(change.item, Sink)
            and change.item.state == "running"
        ),
    )
    player.kill()
    private_graph.remove("second")
    following.wait_for(
        "the end", lambda change: isinstance(change, Removed) and change.item.name == "second"
    )
    graph.close()
    following.join(5)
    assert not following.is_alive()
    assert following.error is None


def test_nobody_polls_to_watch(private_graph: PrivateGraph, graph: Graph) -> None:
    watch = graph.watch()
    thread = threading.Thread(target=lambda: next(watch))
    thread.start()
    time.sleep(0.2)
    begin = time.process_time()
    time.sleep(1)  # no wait for anything: the second whose cost is asked
    assert time.process_time() - begin < 0.05
    private_graph.add_sink("second")
    thread.join(5)
    assert not thread.is_alive()


def test_a_loop_watches_beside_other_work(private_graph: PrivateGraph) -> None:
    async def first_change() -> Change:
        async with Graph(remote=private_graph.remote) as graph:
            watch = graph.watch()
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(private_graph.add_sink, "second")
            return await asyncio.wait_for(waiting, 5)

    change = asyncio.run(first_change())
    assert isinstance(change, Added)
    assert change.item.name == "second"


def test_a_watch_of_a_loop_ends_with_the_graph(private_graph: PrivateGraph) -> None:
    async def watched() -> list[Change]:
        async with Graph(remote=private_graph.remote) as graph:
            asyncio.get_running_loop().call_later(0.1, graph.close)
            return [change async for change in graph.watch()]

    assert asyncio.run(asyncio.wait_for(watched(), 5)) == []


def test_two_watches_are_told_the_same(private_graph: PrivateGraph, graph: Graph) -> None:
    first, second = Following(graph.watch()), Following(graph.watch())
    private_graph.add_sink("second")
    private_graph.remove("second")
    for following in (first, second):
        following.wait_for("the end", lambda change: isinstance(change, Removed))
    graph.close()
    first.join(5)
    second.join(5)
    assert first.changes == second.changes


MAKER = """
import subprocess, sys
count = int(sys.argv[1])
# one client, and so one connection, makes them all; they go when it does
lines = "".join(
    'create-node adapter { factory.name = support.null-audio-sink, node.name = "crowd-%d", '
    'media.class = "Audio/Sink", audio.position = "FL,FR" }\\n' % number
    for number in range(count)
)
client = subprocess.Popen(["pw-cli"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
client.stdin.write(lines)
client.stdin.flush()
sys.stdin.readline()
client.kill()
client.wait()
"""


def test_none_of_500_nodes_that_come_and_go_is_missed(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    following = Following(graph.watch())
    command = ["python3", "-c", MAKER, "500"]
    with subprocess.Popen(command, env=private_graph.env, stdin=subprocess.PIPE) as maker:
        names = {f"crowd-{number}" for number in range(500)}
        wait_until("all of them", lambda: names <= {sink.name for sink in graph.sinks()}, 60)
        maker.communicate(b"\n")
    wait_until("their end", lambda: not names & {sink.name for sink in graph.sinks()}, 60)
    graph.close()
    following.join(5)
    changes = following.changes
    came = [change.item.name for change in changes if isinstance(change, Added)]
    went = [change.item.name for change in changes if isinstance(change, Removed)]
    assert sorted(came) == sorted(went) == sorted(names)


def test_what_nobody_reads_for_too_long_is_told_as_it_has_become(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    watch = graph.watch()
    long_text = "x" * 60_000
    for number in range(300):  # 18 MB, more than is kept
        subprocess.run(
            ["pw-metadata", "0", "stagebox.test", f"{number}{long_text}"],
            env=private_graph.env,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    private_graph.add_sink("second")
    change = next(change for change in watch if isinstance(change, Added))
    assert change.item.name == "second"
    assert "second" in {sink.name for sink in graph.sinks()}


def test_a_hundred_looks_leave_nothing(private_graph: PrivateGraph) -> None:
    def look() -> None:
        with Graph(remote=private_graph.remote) as graph:
            graph.watch()
            assert graph.sinks()

    for _ in range(5):
        look()
    before = Footprint.now()
    for _ in range(100):
        look()
    before.assert_grown_by_at_most(MEBIBYTE_KIB)


def test_a_daemon_that_goes_is_told_to_all_who_look(
    private_graph: PrivateGraph, graph: Graph
) -> None:
    following = Following(graph.watch())
    private_graph.kill()
    following.join(5)
    assert not following.is_alive()
    assert isinstance(following.error, DaemonAbsent)
    with pytest.raises(DaemonAbsent):
        graph.sinks()


def test_what_is_closed_says_so(graph: Graph) -> None:
    graph.close()
    graph.close()
    with pytest.raises(GraphClosed):
        graph.sinks()
    with pytest.raises(GraphClosed):
        graph.watch()


def test_a_forked_child_may_not_look(graph: Graph) -> None:
    child = os.fork()
    if child == 0:
        try:
            graph.sinks()
        except DaemonAbsent:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert graph.sinks()


def test_without_a_daemon_there_is_nothing_to_look_at(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(DaemonAbsent):
        Graph(remote=f"{os.fspath(tmp_path)}/pipewire-0")
