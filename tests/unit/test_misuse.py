"""What is not for copies, forks and sub-interpreters says so; odd buffers do what is written."""

from __future__ import annotations

import copy
import ctypes
import gc
import mmap
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import stagebox
from stagebox import (
    CodecError,
    MicPump,
    OpusDecoder,
    OpusEncoder,
    PumpTuning,
)
from stagebox.opus import MAX_PACKET_BYTES, MAX_PACKET_FRAMES
from stagebox.testing import PrivateGraph
from tests.conftest import outcomes, untraced, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PATIENT = PumpTuning(60, 60, 60, 60, 60)


class QuietMic:
    """A microphone that takes everything."""

    alive = True

    def push(self, _pcm: NDArray[np.float32]) -> bool:
        return True

    def discard(self) -> None: ...

    def close(self) -> None: ...


def start_pump() -> MicPump:
    opener: Any = lambda _channels: QuietMic()  # noqa: E731 - it need not be the whole protocol
    return MicPump.start(opener, PATIENT)


# --- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize(
    "make",
    [start_pump, lambda: start_pump().sender(), OpusDecoder, OpusEncoder, PrivateGraph],
    ids=["MicPump", "MicSender", "OpusDecoder", "OpusEncoder", "PrivateGraph"],
)
def test_what_holds_something_cannot_be_copied_or_pickled(
    make: Callable[[], object], duplicate: Callable[[object], object]
) -> None:
    thing = make()
    with pytest.raises(TypeError, match=rf"a {type(thing).__name__} cannot be copied or pickled"):
        duplicate(thing)


def through_pickle(value: object) -> object:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, through_pickle])
@pytest.mark.parametrize(
    "value",
    [
        stagebox.PUMP_TUNING,
        stagebox.PumpStats(stagebox.pump_state.State.RUNNING, *range(11)),
        stagebox.MicStats(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "idle"),
        stagebox.CaptureStats(1, 2, 3, 4, 5, 6, 7, 8, "idle"),
        stagebox.CaptureDied("gone"),
        stagebox.PipeWireUnavailable("not there"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_can_be_copied_and_pickled(
    value: object, duplicate: Callable[[object], object]
) -> None:
    double = duplicate(value)
    assert type(double) is type(value)
    assert repr(double) == repr(value)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
def test_a_copied_chunk_has_pcm_of_its_own(
    duplicate: Callable[[stagebox.Chunk], stagebox.Chunk],
) -> None:
    chunk = stagebox.Chunk(np.ones((3, 2), np.float32), 5, 7)
    double = duplicate(chunk)
    chunk.pcm[:] = 0
    assert (double.pcm == 1).all()
    assert (len(double), double.time_ns, double.lost_frames) == (3, 5, 7)


# --- closed --------------------------------------------------------------------------------------


def test_a_closed_pump_answers_everything_or_says_that_it_is_closed() -> None:
    pump = start_pump()
    sender = pump.sender()
    sender.close()
    assert pump.close()
    assert outcomes(pump, RuntimeError) == {"sender": "the pump is closed"}
    assert outcomes(sender, RuntimeError) == {"clone": "the sender is closed"}
    with pump, sender:  # harmless
        assert not sender.try_send(b"\0")


def test_a_graph_that_has_stopped_says_so_and_asks_no_other_daemon() -> None:
    with PrivateGraph() as graph:
        pass
    said = outcomes(graph, stagebox.StageboxError, without={"start"})
    assert set(said) >= {"remote", "directory", "dump", "add_sink", "remove", "default", "restart"}
    assert all("is not running" in text for text in said.values())


def test_a_graph_is_started_once() -> None:
    with PrivateGraph() as graph:
        processes = list(graph.processes)
        with pytest.raises(stagebox.StageboxError, match="running already"):
            graph.start()
        assert graph.processes == processes
    assert all(process.poll() is not None for process in processes)


def test_a_microphone_may_close_its_pump() -> None:
    said: list[bool] = []
    alone = threading.Event()

    class Closing(QuietMic):
        def push(self, _pcm: NDArray[np.float32]) -> bool:
            assert alone.wait(5)
            said.append(pump.close())
            return True

    opener: Any = lambda _channels: Closing()  # noqa: E731
    pump = MicPump.start(opener, PATIENT)
    wait_until("the microphone", lambda: pump.stats.state == "running")
    with pump.sender() as sender:
        sender.try_send(OpusEncoder().encode(np.zeros((960, 2), np.float32)))
    alone.set()  # nobody holds the pump any more but itself
    wait_until("the end", lambda: pump.stats.state == "stopped")
    assert said == [False]


# --- other processes and interpreters ------------------------------------------------------------


def run(program: str, *arguments: str) -> list[str]:
    """The lines a program prints; it must end well and promptly, and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *arguments],
        env=untraced(os.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


FORKED_PUMP = """
    import os, sys, time
    import numpy as np
    from stagebox import MicPump, OpusEncoder

    class Mic:
        alive = True
        def push(self, pcm): return True
        def discard(self): pass
        def close(self): print("closed", flush=True)

    packet = OpusEncoder().encode(np.zeros((960, 2), np.float32))
    pump = MicPump.start(lambda channels: Mic())
    sender = pump.sender()
    while pump.stats.state != "running":
        time.sleep(0.001)
    sender.try_send(packet)
    child = os.fork()
    if child == 0:
        print("child:", sender.try_send(packet), pump.stats.state, pump.close(0), flush=True)
        with MicPump.start(lambda channels: Mic()) as own, own.sender() as sender_of_own:
            while own.stats.state != "running":
                time.sleep(0.001)
            print("own:", sender_of_own.try_send(packet), own.stats.state, flush=True)
        sys.exit()  # with all that an interpreter does at its end
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("parent:", sender.try_send(packet), pump.stats.state, flush=True)
    while pump.stats.pushed < 2 * 960:
        time.sleep(0.001)
"""


def test_in_a_forked_child_a_pump_has_stopped_and_its_parents_goes_on() -> None:
    assert run(FORKED_PUMP) == [
        "child: False stopped True",
        "own: True running",
        "closed",
        "parent: True running",
        "closed",
    ]


SUB_INTERPRETER = """
    import os, sys
    try:
        import _interpreters as interpreters
        sub = interpreters.create(sys.argv[1])
    except ImportError:
        import _xxsubinterpreters as interpreters
        sub = interpreters.create(isolated=sys.argv[1] == "isolated")
    interpreters.run_string(sub, '''if True:
        import sys
        sys.path[:] = %r
        try:
            import stagebox
        except ImportError as error:
            print("ImportError", flush=True)
        else:
            for opener in stagebox.open_audio_capture, stagebox.open_virtual_mic:
                try:
                    opener(remote="/nonexistent")
                except stagebox.StageboxError as error:
                    print(type(error).__name__, error, flush=True)
    ''' % sys.path)
    os._exit(0)  # CPython 3.12.1 crashes at the end of one that has imported asyncio
"""


@pytest.mark.parametrize("kind", ["legacy", "isolated"])
def test_a_sub_interpreter_is_refused(kind: str) -> None:
    said = run(SUB_INTERPRETER, kind)
    if kind == "isolated" and sys.version_info >= (3, 12):
        assert said == ["ImportError"]  # numpy's own
    else:
        refusal = "UnsupportedPlatform stagebox works in the main interpreter only"
        assert [line[: len(refusal)] for line in said] == [refusal, refusal]


# --- odd buffers ---------------------------------------------------------------------------------


class Subclass(np.ndarray[Any, np.dtype[np.float32]]):
    """An array of another kind, as astropy and others have."""


def pcm_with(value: float) -> NDArray[np.float32]:
    return np.full((960, 2), value, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3.4e38, 0.0])
def test_whatever_numbers_are_encoded_what_is_decoded_is_finite(value: float) -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    out = np.empty((MAX_PACKET_FRAMES, 2), np.float32)
    for _ in range(5):
        assert decoder.decode(encoder.encode(pcm_with(value)), out) == 960
        assert np.isfinite(out[:960]).all()
    tone = np.repeat(0.5 * np.sin(np.arange(960) / 10)[:, None], 2, axis=1).astype(np.float32)
    for _ in range(5):  # and the encoder is none the worse for it
        decoder.decode(encoder.encode(tone), out)
    assert 0.3 < np.abs(out[:960]).max() < 0.8


def test_subclasses_of_arrays_are_arrays() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    masked = np.ma.masked_array(pcm_with(0.1), mask=True)  # its mask means nothing here
    assert encoder.encode(masked)
    packet = encoder.encode(pcm_with(0.1).view(Subclass))
    assert decoder.decode(packet, np.empty((960, 2), np.float32).view(Subclass)) == 960


def test_an_unaligned_array_is_refused() -> None:
    odd = np.frombuffer(bytearray(960 * 8 + 1), np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="aligned"):
        OpusEncoder().encode(odd)
    with pytest.raises(ValueError, match="aligned"):
        OpusDecoder().decode(b"\0", odd)


def padded(size: int) -> bytes:
    """A valid packet of 2.5 ms of silence, most of it padding (RFC 6716 section 3.2.5)."""
    head = bytes([0xE0 | 3, 0x41])
    count, rest = divmod(size - len(head) - 1, 255)
    return head + b"\xff" * count + bytes([rest]) + bytes(size - len(head) - count - 1)


def test_a_packet_no_datagram_could_bring_is_refused() -> None:
    decoder, out = OpusDecoder(), np.empty((MAX_PACKET_FRAMES, 2), np.float32)
    assert decoder.decode(padded(MAX_PACKET_BYTES), out) == 120
    with pytest.raises(CodecError, match="65536 bytes are no Opus packet"):
        decoder.decode(padded(MAX_PACKET_BYTES + 1), out)


def test_a_huge_array_is_refused_without_being_looked_at() -> None:
    with mmap.mmap(-1, 1 << 30) as zeros:
        pcm = np.frombuffer(zeros, np.float32)
        with pytest.raises(ValueError, match="frames"):
            OpusEncoder().encode(pcm)
        del pcm


@pytest.mark.parametrize(
    "packet",
    [bytearray(b"\0"), memoryview(b"\0"), (ctypes.c_char * 1)(), np.zeros(1, np.uint8)],
    ids=lambda packet: type(packet).__name__,
)
def test_whatever_is_bytes_like_is_a_packet(packet: Any) -> None:
    assert OpusDecoder().decode(packet, np.empty((5760, 2), np.float32)) == 480
    with start_pump() as pump, pump.sender() as sender:
        assert sender.try_send(packet)


def test_a_released_view_is_no_packet() -> None:
    packet = memoryview(b"\0")
    packet.release()
    with pytest.raises(ValueError, match="released"):
        OpusDecoder().decode(packet, np.empty((5760, 2), np.float32))


def test_codecs_in_cycles_and_threads_go_with_their_last_user() -> None:
    gone: list[weakref.ref[OpusDecoder]] = []

    def work() -> None:
        decoder = OpusDecoder()
        cycle: list[object] = [decoder]
        cycle.append(cycle)
        gone.append(weakref.ref(decoder))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 8


def test_the_list_of_public_names_is_covered() -> None:
    """What is new and holds something belongs into the tests above and in tests/graph."""
    known = {
        *("AudioCapturer", "VirtualMic", "MicPump", "MicSender", "OpusDecoder", "OpusEncoder"),
        *("CaptureStats", "Chunk", "MicStats", "PumpStats", "PumpTuning"),
    }
    classes = {
        name
        for name in stagebox.__all__
        if isinstance(kind := getattr(stagebox, name), type) and not issubclass(kind, Exception)
    }
    assert classes == known
