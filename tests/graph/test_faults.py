"""Daemons that are absent, wrong, stopped, killed and restarted."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import (
    PUMP_TUNING,
    SAMPLE_RATE,
    CaptureDied,
    MicPump,
    OpusEncoder,
    PipeWireUnavailable,
    PumpTuning,
    open_audio_capture,
    open_virtual_mic,
)
from tests.conftest import needs_libcs_malloc, untraced, wait_until
from tests.graph.conftest import Applications, recorded_mic, speak, tone, wait_for_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stagebox.mic import PipeWireMic
    from stagebox.testing import PrivateGraph

BLOCK = np.zeros((480, 2), np.float32)
QUICK = PumpTuning(0.05, 0.2, 0.1, 0.6, 0.0)
OPENERS = [open_audio_capture, open_virtual_mic]


# --- opening -------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", OPENERS)
def test_no_daemon_is_an_error_at_once(opener: Callable[..., object], tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(PipeWireUnavailable, match=r"no PipeWire daemon is running.*start it"):
        opener(remote=str(tmp_path / "nothing"))
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("opener", OPENERS)
def test_a_session_without_a_daemon_is_an_error_that_names_the_socket(
    opener: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    with pytest.raises(PipeWireUnavailable, match=str(tmp_path / "pipewire-0")):
        opener()


def test_a_socket_that_nobody_listens_on_is_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "pipewire-0"))
    with pytest.raises(PipeWireUnavailable, match=r"no PipeWire daemon is running.*refused"):
        open_virtual_mic(remote=str(tmp_path / "pipewire-0"))


def test_a_socket_that_is_not_pipewires_is_refused_within_the_time(tmp_path: Path) -> None:
    path = str(tmp_path / "other")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()

        def hang_up() -> None:
            other.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(PipeWireUnavailable, match="went away during the handshake"):
            open_audio_capture(remote=path)
        thread.join()


OPENING = """
import sys, stagebox
print("opening", flush=True)
try:
    stagebox.open_virtual_mic(remote=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_is_answered_while_opening(tmp_path: Path) -> None:
    path = str(tmp_path / "mute")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        with subprocess.Popen(
            [sys.executable, "-c", OPENING, path],
            env=untraced(os.environ),
            stdout=subprocess.PIPE,
            text=True,
        ) as opening:
            assert opening.stdout
            assert opening.stdout.readline() == "opening\n"
            with mute.accept()[0]:  # it has connected, and waits for an answer
                begin = time.monotonic()
                opening.send_signal(signal.SIGINT)
                assert opening.stdout.readline() == "interrupted\n"
                assert time.monotonic() - begin < 1


def test_a_path_too_long_for_a_socket_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(PipeWireUnavailable, match="name too long"):
        open_virtual_mic(remote=str(tmp_path / ("x" * 200)))


def test_a_sink_that_does_not_exist_is_an_error_that_lists_the_others(
    private_graph: PrivateGraph,
) -> None:
    private_graph.add_sink("living-room")
    with pytest.raises(ValueError, match=r"'kitchen'.*'living-room', 'stagebox-sink'"):
        open_audio_capture(target="kitchen", remote=private_graph.remote)


def test_a_sink_made_a_moment_ago_is_found_on_the_open_connection(
    private_graph: PrivateGraph,
) -> None:
    with open_audio_capture(remote=private_graph.remote):
        private_graph.add_sink("new")
        open_audio_capture(target="new", remote=private_graph.remote).close()
        private_graph.remove("new")
        with pytest.raises(ValueError, match="'new'"):
            open_audio_capture(target="new", remote=private_graph.remote)


def test_the_environment_names_the_daemon(
    private_graph: PrivateGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = str(private_graph.directory)
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
    open_virtual_mic().close()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", directory)
    open_virtual_mic().close()
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setenv("PIPEWIRE_REMOTE", private_graph.remote)
    open_virtual_mic().close()
    monkeypatch.setenv("PIPEWIRE_REMOTE", "/nonexistent/pipewire")
    open_virtual_mic(remote=private_graph.remote).close()  # said explicitly, it wins
    with pytest.raises(PipeWireUnavailable, match="/nonexistent/pipewire"):
        open_virtual_mic()


# --- dying ---------------------------------------------------------------------------------------


def test_a_killed_daemon_is_noticed_within_a_second_by_an_idle_microphone(
    private_graph: PrivateGraph,
) -> None:
    mic = open_virtual_mic(remote=private_graph.remote)
    assert mic.alive
    private_graph.kill()
    assert wait_until("death", lambda: not mic.alive) < 1
    assert not mic.push(BLOCK)
    assert not mic.push(BLOCK)
    assert mic.stats.state == "dead"
    mic.discard()  # harmless
    mic.close()


def test_a_killed_daemon_wakes_a_waiting_reader_within_a_second(
    private_graph: PrivateGraph,
) -> None:
    private_graph.remove(private_graph.sink)
    capture = open_audio_capture(remote=private_graph.remote)
    died_at: list[float] = []

    def read() -> None:
        with pytest.raises(CaptureDied, match="gone"):
            capture.next_chunk(timeout=30)
        died_at.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    killed_at = time.monotonic()
    private_graph.kill()
    reader.join(10)
    assert died_at
    assert died_at[0] - killed_at < 1
    for _ in range(3):
        with pytest.raises(CaptureDied):
            capture.next_chunk()
        with pytest.raises(CaptureDied):
            capture.read(480)
    assert capture.stats.state == "dead"
    capture.close()


def test_what_was_captured_before_the_death_can_still_be_read(private_graph: PrivateGraph) -> None:
    capture = open_audio_capture(remote=private_graph.remote)
    wait_until("a backlog", lambda: capture.stats.waiting > SAMPLE_RATE // 10)
    private_graph.kill()
    wait_until("death", lambda: capture.stats.state == "dead")
    waiting = capture.stats.waiting
    assert len(capture.read(1_000_000)) == waiting
    with pytest.raises(CaptureDied):
        capture.read(1)


def test_a_node_destroyed_by_somebody_is_a_death(private_graph: PrivateGraph) -> None:
    mic = open_virtual_mic(remote=private_graph.remote)
    other = open_virtual_mic(name="other", remote=private_graph.remote)
    capture = open_audio_capture(remote=private_graph.remote)
    private_graph.remove("stagebox-mic")
    private_graph.remove("stagebox-capture")
    assert wait_until("death", lambda: not mic.alive and capture.stats.state == "dead") < 1
    assert not mic.push(BLOCK)
    capture.drain()
    with pytest.raises(CaptureDied, match="removed"):
        capture.next_chunk()
    assert other.alive  # the connection they share lives


def test_a_restarted_daemon_is_used_again(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    old_mic = open_virtual_mic(remote=private_graph.remote)
    old_capture = open_audio_capture(remote=private_graph.remote)
    private_graph.restart()
    # at once: the old connection may not have noticed yet
    with (
        open_virtual_mic(remote=private_graph.remote) as mic,
        open_audio_capture(remote=private_graph.remote) as capture,
    ):
        assert capture.next_chunk()
        with applications.recording() as recorded:
            wait_for_recorder(mic)
            speak(mic, tone(440, 0.5))
    assert np.abs(recorded[0]).max() > 0.4
    assert not old_mic.alive
    assert old_capture.stats.state == "dead"


def test_after_a_stall_of_the_daemon_nothing_older_than_a_second_is_heard(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    _, daemon, _ = private_graph.processes
    loud = np.full((480, 2), 0.9, np.float32)
    with recorded_mic(applications) as (mic, recorded):
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                assert mic.push(loud)
            pushed_at = time.monotonic()
            wait_until("more than a second", lambda: time.monotonic() > pushed_at + 1.2)
            stalled = mic.stats
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        wait_until("the ring to be emptied", lambda: mic.stats.depth == 0)
        stats = mic.stats
        speak(mic, tone(440, 0.3))
    # what a cycle that was under way still fetched was heard in time; nothing after the stall
    assert stalled.depth > 0
    assert stats.played == stalled.played
    assert stats.stale == stalled.stale + stalled.depth
    assert np.count_nonzero(recorded[0][:, 0] > 0.8) <= stalled.played
    assert np.count_nonzero(np.abs(recorded[0][:, 0]) > 0.1) > SAMPLE_RATE // 10


def test_a_stopped_daemon_is_no_death_and_blocks_no_call(private_graph: PrivateGraph) -> None:
    mic = open_virtual_mic(remote=private_graph.remote)
    capture = open_audio_capture(remote=private_graph.remote)
    _, daemon, _ = private_graph.processes
    capture.next_chunk()
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        for _ in range(10):
            assert mic.push(BLOCK)
            mic.discard()
            assert mic.alive
        capture.drain()
        capture.next_chunk(timeout=0.1)
        assert time.monotonic() - begin < 1
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    wait_until("sound again", lambda: bool(capture.next_chunk(timeout=0.1)))
    assert mic.alive


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], None]]:
    """A function that leaves this process no file descriptor to open but a few, until called."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - numbers, not paths
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    for _ in range(3):
        os.close(taken.pop())

    def give_back() -> None:
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield give_back
    give_back()


def test_a_connection_that_breaks_is_dead_whatever_broke_it(
    private_graph: PrivateGraph, request: pytest.FixtureRequest
) -> None:
    capture = open_audio_capture(remote=private_graph.remote)
    capture.next_chunk()
    # A message whose descriptors do not fit is a protocol error: libpipewire stops reading.
    give_back = request.getfixturevalue("no_descriptors")
    with pytest.raises((PipeWireUnavailable, OSError)):
        open_virtual_mic(remote=private_graph.remote)
    give_back()
    with open_virtual_mic(remote=private_graph.remote) as mic:  # over a new connection
        assert mic.alive
    assert capture.stats.state == "dead"
    capture.drain()  # of what had come by then, if anything
    with pytest.raises(CaptureDied, match="connection error"):
        capture.read(1)


@needs_libcs_malloc
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_may_not_use_what_is_its_parents_but_may_open_its_own(
    private_graph: PrivateGraph,
) -> None:
    capture = open_audio_capture(remote=private_graph.remote)
    mic = open_virtual_mic(remote=private_graph.remote)
    capture.next_chunk()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(CaptureDied, match="process that forked"):
                capture.next_chunk()
            assert not mic.alive
            assert not mic.push(BLOCK)
            mic.discard()
            capture.close()
            mic.close()
            del capture, mic
            gc.collect()
            with open_audio_capture(remote=private_graph.remote) as own:
                assert own.next_chunk()
            status = 0
        finally:
            os._exit(status)
    begin = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert time.monotonic() - begin < 5
    assert mic.alive
    assert mic.push(BLOCK)
    capture.drain()
    assert capture.next_chunk()


# --- the pump ------------------------------------------------------------------------------------


def packets() -> list[bytes]:
    """Half a second of a tone as 20 ms packets."""
    encoder = OpusEncoder(2, "voip", 64_000)
    pcm = tone(440, 0.5)
    return [encoder.encode(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]


def test_the_pump_survives_a_killed_daemon_and_is_heard_again(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    opened: list[PipeWireMic] = []

    def opener(channels: int) -> PipeWireMic:
        opened.append(open_virtual_mic(channels, remote=private_graph.remote))
        return opened[-1]

    def heard_level() -> float:
        with applications.recording() as recorded:
            wait_for_recorder(opened[-1])
            for packet in packets():
                sender.try_send(packet)
                time.sleep(0.02)
        return float(np.abs(recorded[0]).max())

    with MicPump.start(opener, QUICK) as pump, pump.sender() as sender:
        wait_until("the first microphone", lambda: pump.stats.state == "running")
        assert heard_level() > 0.3
        killed_at = time.monotonic()
        private_graph.kill()
        wait_until("the death to be noticed", lambda: pump.stats.deaths == 1)
        assert time.monotonic() - killed_at < 1
        wait_until("a failed open", lambda: pump.stats.open_failures >= 1)
        assert sender.try_send(packets()[0])  # taken, and dropped
        private_graph.restart()
        wait_until("the second microphone", lambda: pump.stats.state == "running")
        assert heard_level() > 0.3
        assert len(opened) == 2
    wait_until("its end", lambda: "stagebox-mic" not in private_graph.node_names())


def test_the_pumps_microphone_appears_when_the_daemon_comes_later(
    private_graph: PrivateGraph,
) -> None:
    private_graph.kill()
    with MicPump.start(
        lambda channels: open_virtual_mic(channels, remote=private_graph.remote), QUICK
    ) as pump:
        wait_until("failed opens", lambda: pump.stats.open_failures >= 3)
        private_graph.restart()
        wait_until("the microphone", lambda: "stagebox-mic" in private_graph.node_names())


def test_the_pump_works_with_its_defaults_in_the_users_session(
    private_graph: PrivateGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in private_graph.env.items():
        monkeypatch.setenv(name, value)
    with MicPump.start(tuning=PUMP_TUNING) as pump:
        wait_until("the microphone", lambda: "stagebox-mic" in private_graph.node_names())
        assert pump.stats.opens == 1


OPENS = """
import sys, stagebox
with stagebox.open_audio_capture(remote=sys.argv[1]) as capture:
    assert capture.next_chunk()
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_an_open_ends_where_libpipewire_looks_for_a_bus_and_forks(
    private_graph: PrivateGraph,
) -> None:
    # Without the right to be real-time it asks for it over the session's bus, and without the
    # address of that, but with a display, libdbus starts dbus-launch from inside our open.
    env = {**untraced(private_graph.env), "DISPLAY": ":77"}
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        del env[name]
    unprivileged = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    subprocess.run(
        [*unprivileged, sys.executable, "-c", OPENS, private_graph.remote],
        env=env,
        check=True,
        timeout=20,
    )


# --- leaving nothing behind ----------------------------------------------------------------------


def threads() -> int:
    """How many there are. One that has been joined may be listed for a moment still."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - not a path, a count


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - not a path, a count


def test_opening_and_closing_50_times_leaves_nothing_behind(private_graph: PrivateGraph) -> None:
    def cycle() -> None:
        with (
            open_audio_capture(remote=private_graph.remote) as capture,
            open_virtual_mic(remote=private_graph.remote) as mic,
        ):
            capture.next_chunk()
            mic.push(BLOCK)

    cycle()
    gc.collect()
    before, nodes = (threads(), descriptors()), sorted(private_graph.node_names())
    for _ in range(50):
        cycle()
    wait_until("their end", lambda: (threads(), descriptors()) == before)
    assert sorted(private_graph.node_names()) == nodes


def test_32_streams_share_one_loop_thread_and_one_data_thread(private_graph: PrivateGraph) -> None:
    before = threads()
    captures = [open_audio_capture(remote=private_graph.remote) for _ in range(16)]
    mics = [open_virtual_mic(name=f"mic-{i}", remote=private_graph.remote) for i in range(16)]
    assert threads() - before == 2
    assert all(capture.next_chunk() for capture in captures)
    del captures, mics
    gc.collect()
    wait_until("their end", lambda: threads() == before)


def test_streams_forgotten_open_are_cleaned_up_in_whatever_order(
    private_graph: PrivateGraph,
) -> None:
    before = threads()
    for _ in range(10):
        cycle: list[object] = [
            open_audio_capture(remote=private_graph.remote),
            open_virtual_mic(remote=private_graph.remote),
        ]
        cycle.append(cycle)  # only the garbage collector can free it, in an order of its own
        del cycle
        gc.collect()
    wait_until("their end", lambda: threads() == before)
    assert private_graph.node_names() == [private_graph.sink]


def test_a_failed_open_leaves_nothing_behind(private_graph: PrivateGraph, tmp_path: Path) -> None:
    def fail() -> None:
        with pytest.raises(ValueError, match="nowhere"):
            open_audio_capture(target="nowhere", remote=private_graph.remote)
        with pytest.raises(PipeWireUnavailable):
            open_virtual_mic(remote=str(tmp_path / "nothing"))

    fail()
    gc.collect()
    before = threads(), descriptors()
    for _ in range(10):
        fail()
    gc.collect()
    wait_until("their end", lambda: (threads(), descriptors()) == before)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nobody refers to goes; cycles stay until the end of the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_closing_the_last_stream_ends_the_connection_though_the_stream_is_remembered(
    private_graph: PrivateGraph,
) -> None:
    before = threads(), descriptors()
    capture = open_audio_capture(remote=private_graph.remote)
    mic = open_virtual_mic(remote=private_graph.remote)
    capture.close()
    mic.close()
    wait_until("their end", lambda: (threads(), descriptors()) == before)


@pytest.mark.usefixtures("no_collector")
def test_an_open_that_fails_does_not_keep_the_connection_of_the_daemon_that_died(
    private_graph: PrivateGraph,
) -> None:
    before = threads(), descriptors()
    with open_virtual_mic(remote=private_graph.remote) as mic:
        private_graph.kill()
        wait_until("death", lambda: not mic.alive)
        with contextlib.suppress(PipeWireUnavailable):
            open_virtual_mic(remote=private_graph.remote)
    wait_until("their end", lambda: (threads(), descriptors()) == before)


def resident_kib() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
@needs_libcs_malloc
def test_the_end_of_a_connection_gives_the_system_back_what_malloc_has_free(
    private_graph: PrivateGraph,
) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(1000) for _ in range(40_000)]
    for block in blocks[:-1]:  # with the last still there malloc keeps them, as for a busy host
        libc.free(block)
    before = resident_kib()
    open_virtual_mic(remote=private_graph.remote).close()
    assert before - resident_kib() > 20_000
    libc.free(blocks[-1])
