"""What is open, used as it should not be: by too many, too late, in the wrong place, with junk."""

from __future__ import annotations

import array
import asyncio
import copy
import ctypes
import gc
import json
import mmap
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stagebox import (
    SAMPLE_RATE,
    BackendDied,
    CaptureClosed,
    open_audio_capture,
    open_virtual_mic,
)
from stagebox.testing import PrivateGraph
from tests.conftest import needs_libcs_malloc, outcomes, untraced, wait_until
from tests.graph.conftest import (
    STEADY_FRAMES,
    Applications,
    followed_by_silence,
    heard,
    ramp,
    wait_for_recorder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stagebox.mic import MicStats

BLOCK = np.zeros((480, 2), np.float32)


@pytest.fixture(scope="module")
def graph() -> Iterator[PrivateGraph]:
    """One for all of this file: nothing here is to harm a daemon."""
    with PrivateGraph() as graph:
        processes = list(graph.processes)
        yield graph
        assert [process.poll() for process in processes] == [None] * 3


@pytest.fixture(autouse=True)
def _nothing_stays(graph: PrivateGraph) -> Iterator[None]:
    """No node or thread of a test is there after it."""
    gc.collect()
    before = threads()
    yield
    gc.collect()
    wait_until("our threads to end", lambda: threads() <= before)
    wait_until("our nodes to go", lambda: graph.node_names() == [graph.sink])


def threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - not a path, a count


def run(program: str, graph: PrivateGraph, *arguments: str, timeout: float = 60) -> list[str]:
    """The lines a program prints; it must end well, and say nothing on stderr.

    `remote`, `BLOCK` and `packet`, an Opus packet of 20 ms, are there for it.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROLOGUE + program, graph.remote, *arguments],
        env=untraced(os.environ),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


PROLOGUE = """
import gc, os, random, signal, sys, threading, time
import numpy as np
import stagebox

remote = sys.argv[1]
BLOCK = np.zeros((480, 2), np.float32)
packet = stagebox.OpusEncoder().encode(np.zeros((960, 2), np.float32))

def open_capture():
    return stagebox.open_audio_capture(remote=remote)

def open_mic(name="stagebox-mic"):
    return stagebox.open_virtual_mic(name=name, remote=remote)

def start_pump():
    pump = stagebox.MicPump.start(lambda channels: open_mic("pump"))
    while pump.stats.state != "running":
        time.sleep(0.001)
    return pump

def threads():
    return len(os.listdir("/proc/self/task"))

def signalling(seconds):
    "Send this thread a signal every now and then."
    main, stop = threading.get_ident(), threading.Event()
    def shoot():
        while not stop.wait(seconds * random.random()):
            signal.pthread_kill(main, signal.SIGUSR1)
    thread = threading.Thread(target=shoot)
    thread.start()
    def end():
        stop.set()
        thread.join()
    return end
"""


# --- closing -------------------------------------------------------------------------------------


def test_close_may_come_from_any_thread_at_any_moment(
    graph: PrivateGraph, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count = rounds(25, 2000)
    with ThreadPoolExecutor(10) as pool:
        for _ in range(count):
            capture = open_audio_capture(remote=graph.remote)
            mic = open_virtual_mic(remote=graph.remote)
            using = [
                pool.submit(use, call)
                for call in (
                    lambda capture=capture: capture.next_chunk(30),
                    lambda capture=capture: capture.read(960, 30),
                    lambda capture=capture: (capture.drain(), capture.stats, capture.fileno()),
                    lambda mic=mic: mic.push(BLOCK),
                    lambda mic=mic: mic.push(BLOCK),
                    lambda mic=mic: (mic.discard(), mic.stats, mic.alive),
                    lambda mic=mic: mic.set_target_frames(random.randrange(1, 1000)),
                )
            ]
            time.sleep(random.random() * 0.01)
            closing = [pool.submit(close) for close in (capture.close, mic.close) * 3]
            for future in closing:
                future.result(5)
            assert {future.result(5) for future in using[:3]} == {CaptureClosed}
            assert {future.result(5) for future in using[3:]} == {BackendDied}
            assert (capture.stats.state, mic.stats.state) == ("closed", "closed")
    figure(
        f"{count} rounds of 7 threads using and 6 closing: every call ended within 5 s, no crash"
    )


def use(call: Callable[[], object]) -> type[Exception]:
    """Repeat a call until it says that what it used is closed."""
    while True:
        try:
            call()
        except (CaptureClosed, BackendDied) as error:
            return type(error)


def test_a_capture_closed_while_it_is_iterated_asynchronously_just_ends(
    graph: PrivateGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = open_audio_capture(remote=graph.remote)
    duplicate = os.dup

    def closed_meanwhile(descriptor: int) -> int:
        capture.close()
        gc.collect()
        return duplicate(descriptor)

    monkeypatch.setattr(os, "dup", closed_meanwhile)

    async def iterate() -> None:
        async for _ in capture:
            pass

    asyncio.run(asyncio.wait_for(iterate(), 5))


def test_closed_ones_answer_everything_or_say_that_they_are_closed(graph: PrivateGraph) -> None:
    capture = open_audio_capture(remote=graph.remote)
    mic = open_virtual_mic(remote=graph.remote)
    capture.close()
    mic.close()
    said = outcomes(capture, CaptureClosed)
    assert set(said) == {"drain", "fileno", "next_chunk", "read"}
    assert set(said.values()) == {"the capture is closed"}
    said = outcomes(mic, BackendDied)
    assert set(said) == {"discard", "push", "set_target_frames"}
    assert set(said.values()) == {"the microphone is closed"}
    assert list(capture) == []
    with capture, mic:  # harmless
        pass


# --- signals -------------------------------------------------------------------------------------

HANDLER_THAT_USES_EVERYTHING = """
capture, mic = open_capture(), open_mic()
pump = start_pump()
sender = pump.sender()
handled, busy = 0, False
directory, socket = os.path.split(remote)
remote = os.path.join(directory, "..", os.path.basename(directory), socket)  # a connection apart

def handler(number, frame):
    global handled, busy
    if busy:
        return
    busy = True
    with open_mic("handler") as own:
        own.push(BLOCK)
    capture.drain(); capture.next_chunk(0); capture.stats
    mic.push(BLOCK); mic.discard(); mic.stats
    sender.clone().close(); sender.try_send(packet); pump.sender().close(); pump.stats
    handled, busy = handled + 1, False

signal.signal(signal.SIGUSR1, handler)
end = signalling(0.01)
ends_at = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends_at:
    capture.next_chunk()
    for _ in range(10):
        mic.push(BLOCK)
        sender.try_send(packet)
    with open_mic("main") as another, open_capture() as another_capture:
        another.push(BLOCK)
    del another, another_capture  # and with them the connection: the next is the first to open it
end()
sender.close()
assert pump.close()
print(handled)
"""


def test_a_signals_handler_may_use_everything_whatever_it_interrupts(
    graph: PrivateGraph, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    seconds = rounds(1, 40)
    (handled,) = run(HANDLER_THAT_USES_EVERYTHING, graph, str(seconds))
    assert int(handled) > 5
    figure(f"{handled} handlers ran amid open, read, push and close, and did all of them")


HANDLER_THAT_CLOSES = """
signal.signal(signal.SIGUSR1, lambda number, frame: (capture.close(), mic.close()))

def interrupted(error, call):
    global capture, mic
    capture, mic = open_capture(), open_mic()
    end = signalling(0.02)
    try:
        while True:
            call()
    except error:
        pass
    finally:
        end()

for _ in range(int(sys.argv[2])):
    interrupted(stagebox.CaptureClosed, lambda: capture.next_chunk(30))
    interrupted(stagebox.CaptureClosed, lambda: capture.read(100_000, 30))
    interrupted(stagebox.BackendDied, lambda: mic.push(BLOCK))
    interrupted(stagebox.BackendDied, lambda: (mic.stats, mic.discard()))

    capture, mic = open_capture(), open_mic()
    end = signalling(0.0001)  # while it is closed
    capture.close()
    mic.close()
    end()
print(capture.stats.state, mic.stats.state)
"""


def test_a_signals_handler_may_close_what_it_interrupts(
    graph: PrivateGraph, rounds: Callable[[int, int], int]
) -> None:
    assert run(HANDLER_THAT_CLOSES, graph, str(rounds(5, 200))) == ["closed closed"]


HANDLER_THAT_RAISES = """
class Interrupted(Exception):
    pass

armed = False

def handler(number, frame):
    global armed
    if armed:
        armed = False
        raise Interrupted

signal.signal(signal.SIGUSR1, handler)
open_mic().close()
gc.collect()
before = threads()
interrupted = 0
for _ in range(int(sys.argv[2])):
    main, delay = threading.get_ident(), random.random() * 0.015
    thread = threading.Thread(
        target=lambda: (time.sleep(delay), signal.pthread_kill(main, signal.SIGUSR1))
    )
    thread.start()
    try:
        armed = True
        mic = open_mic()
        capture = open_capture()
        armed = False
    except Interrupted:
        interrupted += 1
    thread.join()
    mic = capture = None
    gc.collect()
    deadline = time.monotonic() + 1  # one that was joined is listed for a moment still
    while threads() != before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threads() == before, (threads(), before)
print(interrupted)
"""


def test_an_open_that_a_signals_handler_interrupts_leaves_nothing_behind(
    graph: PrivateGraph, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count = rounds(40, 2000)
    (interrupted,) = run(HANDLER_THAT_RAISES, graph, str(count))
    assert int(interrupted) > count / 10
    figure(f"{interrupted} of {count} opens were interrupted; none left a node or a thread")


# --- the interpreter's end -----------------------------------------------------------------------

EXITS = {
    "with everything open": """
capture, mic, pump = open_capture(), open_mic(), start_pump()
sender = pump.sender()
capture.next_chunk(); mic.push(BLOCK); sender.try_send(packet)
""",
    "with everything in cycles": """
for one in open_capture(), open_mic(), start_pump():
    cycle = [one]
    cycle.append(cycle)
    if isinstance(one, stagebox.MicPump):
        cycle.append(one.sender())
""",
    "with threads in every call": """
capture, mic, pump = open_capture(), open_mic(), start_pump()
sender = pump.sender()
def for_ever(call):
    while True:
        call()
for call in (
    lambda: capture.next_chunk(30), lambda: capture.next_chunk(30), lambda: capture.read(960),
    lambda: mic.push(BLOCK), lambda: mic.stats, lambda: sender.try_send(packet),
    lambda: pump.sender().close(), lambda: open_mic("other").close(),
):
    threading.Thread(target=for_ever, args=(call,), daemon=True).start()
time.sleep(0.05 * random.random())
""",
    "in atexit": """
import atexit
capture, mic, pump = open_capture(), open_mic(), start_pump()
sender = pump.sender()
@atexit.register
def last():
    capture.next_chunk(0); mic.push(BLOCK); sender.try_send(packet)
    with open_mic("last") as another:
        assert another.push(BLOCK)
    capture.close(); mic.close(); sender.close()
    assert pump.close()
    print("closed")
""",
    "in __del__": """
class Host:
    def __init__(self):
        self.capture, self.mic, self.pump = open_capture(), open_mic(), start_pump()
        self.sender = self.pump.sender()
    def __del__(self):
        self.capture.next_chunk(0); self.mic.push(BLOCK); self.sender.try_send(packet)
        self.capture.close(); self.mic.close(); self.sender.close(); self.pump.close()
        print("closed")
host = Host()
host.itself = host
""",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends_promptly_and_quietly(
    graph: PrivateGraph,
    how: str,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    longest = 0.0
    count = rounds(1, 50)
    for _ in range(count):
        *said, at = run(EXITS[how] + "print(time.monotonic(), flush=True)", graph)[::-1]
        took = time.monotonic() - float(at)
        assert took < 5
        assert said == (["closed"] if how in {"in atexit", "in __del__"} else [])
        longest = max(longest, took)
    figure(f"{count} exits {how}: exit code 0, no output, {longest:.2f} s at most")


# --- many threads --------------------------------------------------------------------------------


def sum_of_fates(stats: MicStats) -> int:
    return (
        stats.played + stats.dropped + stats.trimmed + stats.stale + stats.discarded + stats.depth
    )


def test_32_threads_push_into_one_microphone_and_every_frame_is_accounted_for(
    graph: PrivateGraph, tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    applications = Applications(graph, tmp_path)
    pushers, blocks, block_frames = 32, rounds(30, 1000), 48
    begin = time.monotonic()

    def push(pusher: int, mic: Any) -> None:
        for number in range(blocks):
            # all of a block says whose it is, and which
            value = np.float32((1 + pusher + pushers * number) / (1 << 24))
            assert mic.push(np.full((block_frames, 2), value, np.float32))
            # together at the rate of real time
            due = begin + (number + 1) * pushers * block_frames / SAMPLE_RATE
            time.sleep(max(0, due - time.monotonic()))

    with open_virtual_mic(quantum_frames=STEADY_FRAMES, remote=graph.remote) as mic:
        with applications.recording() as recorded, ThreadPoolExecutor(pushers) as pool:
            wait_for_recorder(mic)
            begin = time.monotonic()
            for pushing in [pool.submit(push, pusher, mic) for pusher in range(pushers)]:
                pushing.result(60 + blocks * 0.1)
            mic.discard()
            wait_until("the end", lambda: mic.stats.depth == 0)
            stats = mic.stats
        assert stats.pushed == pushers * blocks * block_frames == sum_of_fates(stats)
        assert stats.played > stats.pushed / 2
    applications.stop()
    numbers = np.rint(recorded[0].astype(np.float64) * (1 << 24)).astype(np.int64) - 1
    assert (numbers[:, 0] == numbers[:, 1]).all()
    numbers = numbers[numbers[:, 0] >= 0, 0]
    assert len(numbers) > stats.played / 2
    for pusher in range(pushers):
        assert (np.diff(numbers[numbers % pushers == pusher]) >= 0).all()  # each one's in order
    runs = np.diff(np.flatnonzero(np.diff(numbers, prepend=-1, append=-1)))
    assert runs.max() == block_frames  # no block is mixed with another, or played twice


def test_many_pushes_at_one_moment_are_all_accounted_for(
    graph: PrivateGraph, tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    applications = Applications(graph, tmp_path)
    block = np.full((20_000, 2), 0.1, np.float32)  # long to copy, and three fit
    together = threading.Barrier(32)

    def push(mic: Any) -> None:
        together.wait(10)
        assert mic.push(block)

    with (
        open_virtual_mic(remote=graph.remote) as mic,
        applications.recording(),
        ThreadPoolExecutor(32) as pool,
    ):
        wait_for_recorder(mic)
        for count in range(1, 1 + rounds(15, 500)):
            for pushing in [pool.submit(push, mic) for _ in range(32)]:
                pushing.result(10)
            mic.discard()
            wait_until("it to be empty", lambda: mic.stats.depth == 0)
            stats = mic.stats
            assert stats.pushed == count * 32 * len(block) == sum_of_fates(stats)
    applications.stop()


def test_8_threads_read_one_capture_and_each_frame_goes_to_one_of_them(
    graph: PrivateGraph, tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    applications = Applications(graph, tmp_path)
    # The same on both sides: where the machine stalls amid a cycle, PipeWire may have written the
    # next quantum to one side already when the other is read.
    sent = np.repeat(ramp(SAMPLE_RATE * rounds(1, 100), 1), 2, axis=1)
    capture = open_audio_capture(8, remote=graph.remote)  # the more to copy, the longer it takes
    over = threading.Event()

    def wait_for_a_backlog() -> None:
        time.sleep(0.2)
        if playing.poll() is not None:
            over.set()

    together = threading.Barrier(8, wait_for_a_backlog)

    def read(reader: int) -> NDArray[np.float32]:
        parts = []
        while together.wait(30) is not None and not over.is_set():
            pcm = capture.read(1000, 0) if reader % 2 else capture.next_chunk(0).pcm
            parts.append(pcm[:, :1])
        return np.concatenate(parts)

    with ThreadPoolExecutor(8) as pool:
        playing = applications.play(followed_by_silence(sent))
        got = [each.result(200) for each in [pool.submit(read, reader) for reader in range(8)]]
    assert playing.wait() == 0
    count = sum(map(len, got))
    wait_until(
        "the figures to agree",  # they are not all of one moment
        lambda: (stats := capture.stats).frames - stats.waiting == count,
    )
    capture.close()
    ramps = [heard(pcm) for pcm in got]
    assert all((np.diff(frames) > 0).all() for frames in ramps)  # to each in order
    everything = np.concatenate(ramps)
    assert len(np.unique(everything)) == len(everything) > len(sent) / 2  # none to two
    assert sum(len(frames) > 0 for frames in ramps) > 1


# --- forks and other processes -------------------------------------------------------------------

FORKS = """
capture, mic, pump = open_capture(), open_mic(), start_pump()
sender = pump.sender()
stop = threading.Event()

def for_ever(call):
    while not stop.wait(0.001):  # or they would leave no time for the rest
        call()

def open_and_close(name):
    with open_mic(name) as own:
        assert own.push(BLOCK)

users = [threading.Thread(target=for_ever, args=(call,), daemon=True) for call in (
    capture.next_chunk, lambda: assert_true(mic.push(BLOCK)), mic.discard,
    lambda: sender.try_send(packet),
    lambda: open_and_close("one"), lambda: open_and_close("two"),
)]

def assert_true(value):
    assert value

def be_a_child():
    signal.alarm(10)  # ends it should it hang
    try:
        capture.read(1_000_000)
        assert False, "it could be read"
    except stagebox.CaptureDied as error:
        assert "process that forked" in str(error), error
    assert not mic.alive and not mic.push(BLOCK)
    assert not sender.try_send(packet) and pump.stats.state == "stopped" and pump.close()
    mic.discard(); mic.stats; mic.close(); capture.drain(); capture.stats; capture.close()
    with open_capture() as own, open_mic("child") as own_mic:
        assert own.next_chunk() and own_mic.push(BLOCK)

for user in users:
    user.start()
count = int(sys.argv[2])
for _ in range(count):
    time.sleep(0.003 * random.random())
    child = os.fork()
    if child == 0:
        try:
            be_a_child()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, status
stop.set()
for user in users:
    user.join()
assert mic.alive and mic.push(BLOCK) and pump.stats.state == "running"
capture.drain()
assert capture.next_chunk()
sender.close()
capture.close()
mic.close()
assert pump.close()
print(count)
"""


@needs_libcs_malloc
def test_a_fork_amid_whatever_other_threads_do_harms_neither_parent_nor_child(
    graph: PrivateGraph, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    (count,) = run(FORKS, graph, str(rounds(12, 1000)), timeout=1200)
    figure(f"{count} forks amid open, read, push and close; each child opened its own")


FORK_AMID_AN_OPEN = """
children = []

def handler(number, frame):
    if os.getpid() == parent:
        child = os.fork()
        if child:
            children.append(child)
        else:
            signal.alarm(10)  # ends it should it hang

parent = os.getpid()
signal.signal(signal.SIGUSR1, handler)
count = int(sys.argv[2])
while len(children) < count:
    main, delay = threading.get_ident(), random.random() * 0.015
    thread = threading.Thread(
        target=lambda: (time.sleep(delay), signal.pthread_kill(main, signal.SIGUSR1))
    )
    thread.start()
    try:
        with open_mic() as mic:
            thread.join()
        if os.getpid() != parent:
            assert not mic.alive  # forked when it was open already
    except stagebox.PipeWireUnavailable as error:
        if os.getpid() == parent or "process that forked" not in str(error):
            raise
    except stagebox.BackendDied:
        pass
    if os.getpid() != parent:
        with open_mic("child") as own:
            assert own.push(BLOCK)
        os._exit(0)
    del mic
    gc.collect()
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(len(children))
"""


@needs_libcs_malloc
def test_a_child_forked_amid_an_open_of_its_parents_is_told_and_may_open_its_own(
    graph: PrivateGraph, rounds: Callable[[int, int], int]
) -> None:
    count = str(rounds(15, 500))
    assert run(FORK_AMID_AN_OPEN, graph, count, timeout=600) == [count]


MULTIPROCESSING = """
import multiprocessing, sys
import stagebox

def work(remote, name):
    with stagebox.open_audio_capture(remote=remote) as capture:
        assert capture.next_chunk()
    with stagebox.open_virtual_mic(name=name, remote=remote) as mic:
        assert mic.push(memoryview(bytes(3840)).cast("f"))

def main(remote):
    capture = stagebox.open_audio_capture(remote=remote)
    mic = stagebox.open_virtual_mic(remote=remote)
    pump = stagebox.MicPump.start(lambda channels: stagebox.open_virtual_mic(remote=remote))
    for method in "spawn", "forkserver":
        context = multiprocessing.get_context(method)
        process = context.Process(target=work, args=(remote, method))
        process.start()
        process.join(20)
        print(method, process.exitcode)
        for thing in capture, mic, pump, pump.sender():
            try:
                context.Process(target=print, args=(thing,)).start()
            except TypeError as error:
                assert "cannot be copied or pickled" in str(error), error
            else:
                print(method, "took", thing)
    assert mic.alive and capture.next_chunk()
    pump.close()

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_multiprocessing_may_open_in_its_processes_and_passes_nothing_open(
    graph: PrivateGraph, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(path), graph.remote],
        env=untraced(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["spawn 0", "forkserver 0"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("opener", [open_audio_capture, open_virtual_mic])
def test_what_is_open_cannot_be_copied_or_pickled(
    graph: PrivateGraph, opener: Callable[..., Any], duplicate: Callable[[object], object]
) -> None:
    with (
        opener(remote=graph.remote) as thing,
        pytest.raises(TypeError, match=r"a PipeWire\w+ cannot be copied or pickled: open another"),
    ):
        duplicate(thing)


# --- odd buffers ---------------------------------------------------------------------------------


class Subclass(np.ndarray[Any, np.dtype[np.float32]]):
    """An array of another kind, as astropy and others have."""


@pytest.mark.parametrize(
    "pcm",
    [
        memoryview(bytes(480 * 8)).cast("f"),
        memoryview(bytes(480 * 8)).cast("f", (480, 2)),
        (ctypes.c_float * 960)(),
        (ctypes.c_float * 2 * 480)(),
        BLOCK.view(Subclass),
        np.ma.masked_array(BLOCK, mask=True),
        np.zeros((480, 2), "=f4"),
        np.frombuffer(bytearray(480 * 8 + 1), np.uint8)[1:].view(np.float32),  # unaligned
        np.zeros((960, 1), np.float32).reshape(480, 2, order="A"),
    ],
    ids=lambda pcm: f"{type(pcm).__name__}",
)
def test_odd_float32_buffers_are_taken(graph: PrivateGraph, pcm: Any) -> None:
    with open_virtual_mic(remote=graph.remote) as mic:
        assert mic.push(pcm)
        assert mic.stats.pushed == 480


def released() -> Any:
    view = memoryview(bytes(8)).cast("f")
    view.release()
    return view


@pytest.mark.parametrize(
    ("pcm", "error", "says"),
    [
        (np.zeros((480, 2), ">f4"), TypeError, "float32"),
        (np.zeros((480, 2), np.complex64), TypeError, "float32"),
        (np.zeros((480, 2), np.float16), TypeError, "float32"),
        (np.zeros((480, 2), object), TypeError, "float32"),
        (np.zeros(480, [("left", "f4"), ("right", "f4")]), TypeError, "float32"),
        (bytearray(480 * 8), TypeError, "float32"),
        (np.broadcast_to(np.float32(0), (1 << 30, 2)), ValueError, "contiguous"),
        (np.zeros((480, 2), np.float32)[::-1], ValueError, "contiguous"),
        (np.zeros((0, 3), np.float32), ValueError, r"\(frames, 2\)"),
        (released(), ValueError, "released"),
        ("text", TypeError, "buffer"),
        (np.datetime64("2000-01-01"), TypeError, "buffer"),
    ],
)
def test_other_buffers_are_refused(
    graph: PrivateGraph, pcm: Any, error: type[Exception], says: str
) -> None:
    with open_virtual_mic(remote=graph.remote) as mic:
        with pytest.raises(error, match=says):
            mic.push(pcm)
        assert mic.stats.pushed == 0


def test_a_gibibyte_is_refused_without_being_looked_at(graph: PrivateGraph) -> None:
    def resident_bytes() -> int:
        with open("/proc/self/statm") as statm:  # noqa: PTH123 - not a file
            return int(statm.read().split()[1]) * mmap.PAGESIZE

    with open_virtual_mic(remote=graph.remote) as mic, mmap.mmap(-1, 1 << 30) as zeros:
        pcm = np.frombuffer(zeros, np.float32)
        before = resident_bytes()
        with pytest.raises(ValueError, match="at most 48000 frames"):
            mic.push(pcm)
        assert resident_bytes() - before < 1 << 20
        del pcm


def test_a_read_may_go_into_part_of_a_huge_array_and_touches_nothing_else(
    graph: PrivateGraph,
) -> None:
    with open_audio_capture(remote=graph.remote) as capture, mmap.mmap(-1, 1 << 30) as memory:
        pcm = np.frombuffer(memory, np.float32).reshape(-1, 2)
        pcm[1_000_479:1_000_481] = 7
        pcm[999_999] = 7
        assert len(capture.read(480, out=pcm[1_000_000:1_000_480])) == 480
        assert (pcm[999_999] == 7).all()
        assert (pcm[1_000_480] == 7).all()
        assert not (pcm[1_000_479] == 7).any()
        for odd in (pcm[1_000_000:1_000_480].view(Subclass), np.ma.masked_array(pcm[:480])):
            assert len(capture.read(480, out=odd)) == 480
        del pcm, odd


def test_a_buffer_cannot_be_resized_while_it_is_pushed(
    graph: PrivateGraph, rounds: Callable[[int, int], int]
) -> None:
    pcm = array.array("f", bytes(960 * 4))
    stop = threading.Event()

    def resize() -> int:
        refused = 0
        while not stop.is_set():
            try:
                pcm.extend([1.0] * 9600)
                del pcm[960:]
            except BufferError:
                refused += 1
        return refused

    with open_virtual_mic(remote=graph.remote) as mic, ThreadPoolExecutor(1) as pool:
        resizing = pool.submit(resize)
        try:
            for _ in range(rounds(3000, 300_000)):
                assert mic.push(pcm)
        finally:
            stop.set()
        assert resizing.result(5) >= 0
        assert sum_of_fates(mic.stats) == mic.stats.pushed


def test_the_smallest_numbers_are_recorded_as_they_are_and_cost_nothing(
    graph: PrivateGraph, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    applications = Applications(graph, tmp_path)
    smallest = np.float32(1e-40)  # a denormal
    tiny = np.full((1000, 2), smallest, np.float32)

    def seconds_to_push(pcm: NDArray[np.float32]) -> float:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            assert mic.push(pcm)
            times.append(time.perf_counter() - begin)
        wait_until("it to be played", lambda: mic.stats.depth == 0)
        return min(times)

    with (
        open_virtual_mic(quantum_frames=STEADY_FRAMES, remote=graph.remote) as mic,
        applications.recording() as recorded,
    ):
        wait_for_recorder(mic)
        normal, denormal = seconds_to_push(tiny * 0 + 0.5), seconds_to_push(tiny)
    assert np.count_nonzero(recorded[0] == smallest) > STEADY_FRAMES
    figure(f"1000 frames pushed in {normal * 1e6:.1f} us, of denormals {denormal * 1e6:.1f} us")
    assert denormal < 10 * normal


# --- names ---------------------------------------------------------------------------------------

NAMES = [
    *('x" media.class=Audio/Sink "', '" }', '"', "'", "\\", '\\"', "\\n", "{ } = : ,", "[", "{"),
    *("media.class=Audio/Sink", "node.name = evil", "{ media.class = Audio/Sink }", "#", "a#b"),
    *("a\nb", "\r\n", "\t", " ", "  x  ", "\x01\x1b[31m", "\x7f", "%s%n", "$(x)", "`x`"),
    *(
        "null",
        "0x10",
        "NaN",
        "Infinity",
        "é",
        "e\u0301",
        "\U0001f3a4",
        "\u202eabc",
        "\ufeff",
        "\ufffe",
        "\U0010ffff",
    ),
    *("x" * 4096, "é" * 2048, '"' * 4096, "{" * 4096),
]


NUMBERS = ["true", "false", "5.1", "1e3", "-0", "+5", "-1"]
"""Names that pw-dump prints as what they look like."""

OWN_PROPERTIES = {"client.id", "object.id", "object.serial"}
"""What differs between two nodes whatever they are called."""


def properties_of_the_source(graph: PrivateGraph) -> dict[str, Any]:
    (properties,) = [
        entry["info"]["props"]
        for entry in graph.dump()
        if (entry.get("info") or {}).get("props", {}).get("media.class") == "Audio/Source"
    ]
    return {name: value for name, value in properties.items() if name not in OWN_PROPERTIES}


def test_a_name_is_carried_exactly_and_nothing_in_it_becomes_a_property(
    graph: PrivateGraph,
) -> None:
    with open_virtual_mic(name="plain", description="plain", remote=graph.remote):
        expected = properties_of_the_source(graph)
    named = {"node.name", "node.description", "media.name"}
    assert named == {key for key, value in expected.items() if value == "plain"}
    for name in NAMES:
        with open_virtual_mic(name=name, description=name, remote=graph.remote) as mic:
            found = properties_of_the_source(graph)
            assert found == {**expected, **dict.fromkeys(named, name)}
            assert mic.alive


@pytest.mark.parametrize("name", NUMBERS)
def test_a_name_may_look_like_a_number(graph: PrivateGraph, name: str) -> None:
    with open_virtual_mic(name=name, description=name, remote=graph.remote):
        printed = subprocess.run(
            ["pw-cli", "info", "all"], env=graph.env, capture_output=True, timeout=20, check=True
        ).stdout.decode()
    assert f'node.name = "{name}"\n' in printed
    assert f'node.description = "{name}"\n' in printed


@pytest.mark.parametrize("name", ['x" y', "{ media.class = Audio/Source }", "a\\nb", "é ' 🎤"])
def test_a_target_is_a_name_whatever_is_in_it(graph: PrivateGraph, name: str) -> None:
    with pytest.raises(ValueError, match=r"there is no sink with node\.name"):
        open_audio_capture(target=name, remote=graph.remote)
    subprocess.run(
        ["pw-cli", "create-node", "adapter", sink_called(name)],
        env=graph.env,
        check=True,
        timeout=20,
        capture_output=True,
    )
    try:
        wait_until("the sink", lambda: name in graph.node_names())
        with open_audio_capture(target=name, remote=graph.remote) as capture:
            assert capture.next_chunk()
            (found,) = [
                entry["info"]["props"]
                for entry in graph.dump()
                if (entry.get("info") or {}).get("props", {}).get("node.name") == "stagebox-capture"
            ]
            assert found["target.object"] == graph.properties(name)["object.serial"]
            assert found["media.class"] == "Stream/Input/Audio"
    finally:
        graph.remove(name)


def sink_called(name: str) -> str:
    return (
        "{ factory.name=support.null-audio-sink media.class=Audio/Sink object.linger=true "
        f"audio.position=[FL FR] node.name={json.dumps(name, ensure_ascii=False)} }}"
    )


def test_a_name_too_long_is_refused_before_it_ends_the_connection(graph: PrivateGraph) -> None:
    with open_virtual_mic(remote=graph.remote) as mic:
        with pytest.raises(ValueError, match="name must be at most 4096 bytes"):
            open_virtual_mic(name="x" * 20_000_000, remote=graph.remote)
        assert mic.alive
