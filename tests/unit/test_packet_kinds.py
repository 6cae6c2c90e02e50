"""Every kind of Opus packet, and streams that change kind midway, become the right PCM.

Right is what libopus, called by another road, makes of the same stream, and what the sender said.
"""

from __future__ import annotations

import time
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import CodecError, MicPump, OpusDecoder, OpusEncoder
from stagebox.layout import SAMPLE_RATE
from stagebox.opus import ENCODE_FRAMES, MAX_PACKET_FRAMES
from tests.conftest import wait_until
from tests.packets import (
    CONFIGS,
    SET_VBR,
    coded_size,
    configuration,
    configure,
    control,
    encoded,
    encoder_of,
    encoder_that_falls_silent,
    joined_packet,
    reference,
    sine,
    strength,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.packets import Pcm

TONE = sine(10 * SAMPLE_RATE)


def decoded(packets: Iterable[bytes], channels: int = 2) -> list[Pcm]:
    """What our decoder makes of a stream, packet by packet."""
    decoder, out = OpusDecoder(channels), np.zeros((MAX_PACKET_FRAMES, channels), np.float32)
    return [out[: decoder.decode(packet, out)].copy() for packet in packets]


class RecordingMic:
    """A microphone that keeps what it is given."""

    alive = True
    stats = None

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.blocks: list[Pcm] = []

    def push(self, pcm: Pcm) -> bool:
        self.blocks.append(pcm.copy())
        return True

    def discard(self) -> None:
        pass

    def close(self) -> None:
        pass


def pumped(packets: Iterable[bytes], channels: int = 2) -> list[Pcm]:
    """What a pump's microphone gets of a stream, packet by packet."""
    mics: list[RecordingMic] = []

    def opener(channels: int) -> RecordingMic:
        mics.append(RecordingMic(channels))
        return mics[-1]

    with MicPump.start(opener, channels=channels) as pump, pump.sender() as sender:
        wait_until("the microphone", lambda: pump.stats.state == "running")
        for packet in packets:
            while not sender.try_send(packet):  # no room yet
                time.sleep(0.001)
    assert pump.close()
    assert pump.stats.decode_errors == 0
    return mics[0].blocks


ROADS = [decoded, pumped]


def assert_same(ours: list[Pcm], theirs: list[Pcm]) -> None:
    assert [len(block) for block in ours] == [len(block) for block in theirs]
    assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def order_of_kinds() -> list[tuple[int, int]]:
    """Every configuration, mono and stereo."""
    kinds = [(config, channels) for config in range(len(CONFIGS)) for channels in (1, 2)]
    half = len(kinds) // 2  # the other half is CELT
    dice = np.random.default_rng(7)
    # In turns: within SILK an encoder takes seconds to change its bandwidth.
    turns = zip(dice.permutation(kinds[:half]), dice.permutation(kinds[half:]), strict=True)
    # But between wide band and hybrid it needs no CELT.
    return [kind for pair in turns for kind in pair] + [(9, 2), (13, 2), (8, 2), (14, 2), (9, 2)]


@cache
def stream_of_every_kind() -> tuple[list[bytes], list[int]]:
    """A tone in packets that change kind all the time, and where in it they do."""
    encoder = OpusEncoder(2, "audio", 96_000)
    packets: list[bytes] = []
    changes = [0]
    for config, channels in order_of_kinds():
        frames = CONFIGS[config][2]
        configure(encoder, config, channels)
        begin = changes[-1]
        changes.append(begin + frames * max(2, 2880 // frames))
        packets += encoded(TONE[begin : changes[-1]], encoder, frames)
    return packets, changes


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_mode_bandwidth_size_and_channel_count_in_one_stream(
    road: Callable[[list[bytes], int], list[Pcm]], channels: int
) -> None:
    packets, changes = stream_of_every_kind()
    assert len({configuration(packet) for packet in packets}) == 64, "all that a packet can say"
    blocks = road(packets, channels)
    assert_same(blocks, reference(packets, channels))
    pcm = np.concatenate(blocks)
    assert len(pcm) == changes[-1]
    for begin, end in pairwise(changes[1:]):
        assert strength(pcm[begin:end]) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("road", ROADS)
def test_packets_of_2_5_to_120_ms_in_one_stream(
    road: Callable[[list[bytes]], list[Pcm]],
) -> None:
    encoder = OpusEncoder(2, "audio", 96_000)
    sizes = [frames for frames in ENCODE_FRAMES for _ in range(3)] * 2
    np.random.default_rng(8).shuffle(sizes)
    pcm, packets = sine(sum(sizes)), []
    for end, frames in zip(np.cumsum(sizes), sizes, strict=True):
        packets.append(encoder.encode(pcm[end - frames : end]))
    blocks = road(packets)
    assert [len(block) for block in blocks] == sizes
    assert_same(blocks, reference(packets))
    heard = np.concatenate(blocks)[SAMPLE_RATE // 10 :]
    assert strength(heard) == pytest.approx(1, abs=0.06), "one tone, whole, across every change"


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("padding", [None, 0, 253, 254, 600])
def test_the_frames_of_one_packet_sound_as_if_they_came_one_by_one(
    road: Callable[[list[bytes]], list[Pcm]], padding: int | None
) -> None:
    for config, count in ((31, 6), (28, 48), (1, 3), (15, 5)):  # CELT 20 and 2.5 ms, SILK, hybrid
        frames = CONFIGS[config][2]
        encoder = encoder_of(config, 2)
        single = encoded(sine(2 * count * frames), encoder, frames)
        together = [joined_packet(part, padding) for part in (single[:count], single[count:])]
        blocks = road(together)
        assert [len(block) for block in blocks] == [count * frames] * 2
        assert np.array_equal(np.concatenate(blocks), np.concatenate(decoded(single)))


@pytest.mark.parametrize("road", ROADS)
def test_two_frames_in_a_packet_of_either_kind(road: Callable[[list[bytes]], list[Pcm]]) -> None:
    encoder = encoder_of(31, 2)
    control(encoder, SET_VBR, 0)
    one, other = encoded(sine(2 * 960), encoder)
    equal = bytes([one[0] | 1]) + one[1:] + other[1:]
    unequal = bytes([one[0] | 2]) + coded_size(len(one) - 1) + one[1:] + other[1:]
    apart = np.concatenate(decoded([one, other]))
    for packet in (equal, unequal):
        [block] = road([packet])
        assert np.array_equal(block, apart)


@pytest.mark.parametrize("road", ROADS)
def test_silence_of_one_byte_a_packet_is_silence_of_the_right_length(
    road: Callable[[list[bytes]], list[Pcm]],
) -> None:
    pcm = np.concatenate([sine(9600), np.zeros((48_000, 2), np.float32), sine(9600)])
    packets = encoded(pcm, encoder_that_falls_silent(2))
    assert sum(len(packet) <= 2 for packet in packets) > 10
    blocks = road(packets)
    assert {len(block) for block in blocks} == {960}
    assert_same(blocks, reference(packets))
    heard = np.concatenate(blocks)
    assert strength(heard[4800:9600]) == pytest.approx(1, abs=0.15)
    assert np.abs(heard[24_000:48_000]).max() < 0.01
    assert strength(heard[-4800:]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("road", ROADS)
def test_a_claim_of_120_ms_with_nothing_in_it_is_120_ms_of_almost_nothing(
    road: Callable[[list[bytes]], list[Pcm]],
) -> None:
    claim = bytes([31 << 3 | 4 | 3, 6])  # six frames of 20 ms, none of which has a byte
    blocks = road([claim, claim])
    assert [len(block) for block in blocks] == [5760, 5760]
    assert not np.concatenate(blocks).any()


@pytest.mark.parametrize(
    "claim",
    [
        bytes([31 << 3 | 3, 7]),  # 7 x 20 ms
        bytes([28 << 3 | 3, 49]),  # 49 x 2.5 ms
        bytes([3 << 3 | 3, 3]),  # 3 x 60 ms
        bytes([31 << 3 | 3, 63]),
        bytes([31 << 3 | 3, 0]),  # no frame at all
        bytes([31 << 3 | 3]),  # no count
        bytes([31 << 3 | 3, 0x41, 255]),  # padding without an end
        bytes([31 << 3 | 3, 0x41, 200]) + bytes(100),  # more padding than packet
        bytes([31 << 3 | 2, 200]) + bytes(100),  # a frame longer than the packet
        bytes([31 << 3 | 1]) + bytes(3),  # two equal frames in three bytes
    ],
    ids=bytes.hex,
)
def test_a_claim_that_cannot_be_is_refused(claim: bytes) -> None:
    with pytest.raises(CodecError, match="corrupted stream"):
        decoded([claim])
