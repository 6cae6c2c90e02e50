"""Junk by the million: what is no good Opus harms neither the pump nor the good packets."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagebox import CodecError, MicPump, OpusDecoder, OpusEncoder
from stagebox.opus import ENCODE_FRAMES, MAX_PACKET_FRAMES
from tests.conftest import wait_until
from tests.footprint import Footprint
from tests.packets import PACKET_FRAMES, Junk, encoded, reference, sine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from tests.packets import Pcm

SEED = 20_261_122
GROWTH_KIB = 1024

GOOD_RUN = encoded(sine(25 * PACKET_FRAMES), OpusEncoder(2, "audio", 96_000))
GOOD_PCM = reference(GOOD_RUN)
RECOVERY_PACKETS = 20
"""From then on what follows junk must sound as if there had been none: 0.4 s."""

JUNK_RUN = 200
BURST = 32
"""Half of what the pump's queue holds: nothing is dropped."""


class MeteredMic:
    """A microphone that measures all, and keeps what it gets while it is told to."""

    alive = True
    stats = None

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.blocks = 0
        self.frames = 0
        self.not_numbers = 0
        self.kept: list[Pcm] | None = None

    def push(self, pcm: Pcm) -> bool:
        self.frames += len(pcm)
        self.not_numbers += not np.isfinite(pcm).all()
        if self.kept is not None:
            self.kept.append(pcm.copy())
        self.blocks += 1  # last: the sender waits for it
        return True

    def discard(self) -> None:
        pass

    def close(self) -> None:
        pass


class Line:
    """A pump, its microphone, and a sender that waits so that nothing is dropped."""

    def __init__(self) -> None:
        self.mic = MeteredMic(2)
        self.pump = MicPump.start(lambda _: self.mic)
        self.sender = self.pump.sender()
        self.sent = 0
        wait_until("the microphone", lambda: self.pump.stats.state == "running")

    def send(self, packets: Iterable[bytes]) -> None:
        """Send all; when this returns they have been decoded or counted as junk."""
        rest = iter(packets)
        while burst := list(itertools.islice(rest, BURST)):
            assert all(map(self.sender.try_send, burst))
            self.sent += len(burst)
            begin = time.monotonic()
            while self.mic.blocks + self.pump.stats.decode_errors < self.sent:
                assert time.monotonic() < begin + 30, f"stuck: {self.pump.stats}"
                time.sleep(0.0002)

    def send_and_listen(self, packets: Iterable[bytes]) -> list[Pcm]:
        """Send all; what the microphone got of it."""
        kept = self.mic.kept = []
        self.send(packets)
        self.mic.kept = None
        return kept

    def close(self) -> None:
        self.sender.close()
        assert self.pump.close()


@contextmanager
def open_line() -> Iterator[Line]:
    line = Line()
    try:
        yield line
    finally:
        line.close()


def packets_until_right(blocks: list[Pcm]) -> int:
    """How many packets of the good run differ from what it is without junk before it."""
    assert [len(block) for block in blocks] == [PACKET_FRAMES] * len(GOOD_RUN)
    wrong = [
        number
        for number, (block, right) in enumerate(zip(blocks, GOOD_PCM, strict=True))
        if not np.abs(block - right).max() < 1e-3
    ]
    return wrong[-1] + 1 if wrong else 0


def test_a_million_packets_of_junk_do_no_harm_to_the_good_ones_between_them(
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = rounds(4000, 1_000_000) // JUNK_RUN
    junk = Junk(SEED)
    worst = 0
    with open_line() as line:
        line.send(itertools.chain(junk.packets(2000), GOOD_RUN))
        before = Footprint.now()
        begin = time.monotonic()
        for number in range(runs):
            line.send(junk.packets(JUNK_RUN))
            wrong = packets_until_right(line.send_and_listen(GOOD_RUN))
            assert wrong <= RECOVERY_PACKETS, f"seed {SEED}, after run {number} of junk"
            worst = max(worst, wrong)
        seconds = time.monotonic() - begin
        grown = before.assert_grown_by_at_most(GROWTH_KIB)
    stats = line.pump.stats
    assert stats.packets == line.sent == 2000 + len(GOOD_RUN) + runs * (JUNK_RUN + len(GOOD_RUN))
    assert stats.packets == line.mic.blocks + stats.decode_errors
    assert stats.pushed == line.mic.frames
    assert stats.dropped_full == stats.dropped_closed == stats.deaths == 0
    assert stats.opens == 1
    assert stats.decode_errors > line.sent // 10, "some of it was no Opus"
    assert line.mic.not_numbers == 0, f"seed {SEED}"
    assert len(caplog.records) <= 2 + stats.decode_errors.bit_length(), "the log stays short"
    figure(
        f"{runs * JUNK_RUN} packets of junk in {seconds:.0f} s, {stats.decode_errors} refused, "
        f"{grown:+} KiB; good ones right again after at most {worst} packets"
    )


# --- memory --------------------------------------------------------------------------------------


@pytest.fixture
def edge() -> Iterator[Callable[[int], Any]]:
    """Frames (stereo) that end where memory ends: to touch what follows is a segmentation fault."""
    page = mmap.PAGESIZE
    size = -(-MAX_PACKET_FRAMES * 8 // page) * page
    area = mmap.mmap(-1, size + page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(base + size), ctypes.c_size_t(page), 0) == 0

    def frames(count: int) -> Any:
        end = np.frombuffer(area, np.float32, size // 4)
        return end[len(end) - 2 * count :].reshape(count, 2)

    yield frames
    libc.mprotect(ctypes.c_void_p(base + size), ctypes.c_size_t(page), 3)


def test_junk_never_makes_the_decoder_write_beyond_what_it_was_given(
    edge: Callable[[int], Any], rounds: Callable[[int, int], int]
) -> None:
    decoder = OpusDecoder(2)
    sizes = [edge(count) for count in (MAX_PACKET_FRAMES, 5759, 2880, 961, 960, 240, 120, 119, 1)]
    for packet, out in zip(
        Junk(SEED + 1).packets(rounds(5000, 100_000)), itertools.cycle(sizes), strict=False
    ):
        with suppress(CodecError):
            assert 0 < decoder.decode(packet, out) <= len(out)


# --- by hypothesis -------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    packets=st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=8),
    room=st.integers(1, 6000),
    channels=st.sampled_from([1, 2]),
)
def test_whatever_arrives_is_decoded_or_refused(
    packets: list[bytes], room: int, channels: int
) -> None:
    decoder = OpusDecoder(channels)
    out = np.full((room + 100, channels), 7, np.float32)
    for packet in packets:
        try:
            frames = decoder.decode(packet, out[:room])
        except CodecError:
            continue
        assert 0 < frames <= min(room, MAX_PACKET_FRAMES)
        assert frames % 120 == 0
    assert np.all(out[room:] == 7)


@settings(max_examples=50, deadline=None)
@given(
    number=st.floats(width=32),
    place=st.sampled_from([slice(None), slice(100, 101), slice(0, None, 7)]),
    frames=st.sampled_from(ENCODE_FRAMES),
    application=st.sampled_from(["voip", "audio", "lowdelay"]),
    bitrate=st.none() | st.integers(500, 512_000),
)
def test_whatever_is_encoded_becomes_sound_and_the_next_does_too(
    number: float, place: slice, frames: int, application: Any, bitrate: int | None
) -> None:
    encoder, decoder = OpusEncoder(2, application, bitrate), OpusDecoder(2)
    out = np.zeros((MAX_PACKET_FRAMES, 2), np.float32)
    pcm = sine(frames)
    pcm[place] = number
    for _ in range(3):
        assert decoder.decode(encoder.encode(pcm), out) == frames
        assert np.isfinite(out[:frames]).all()
    for _ in range(4):
        assert decoder.decode(encoder.encode(sine(frames)), out) == frames
        assert np.isfinite(out[:frames]).all()
