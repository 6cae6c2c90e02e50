"""Opus packets of every kind, good ones and junk, and what a stream of them should sound like."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import numpy as np
import opuslib

from stagebox.layout import SAMPLE_RATE
from stagebox.opus import MAX_PACKET_FRAMES, OpusEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    Pcm = NDArray[np.float32]

LEVEL: Final = 0.5
PACKET_FRAMES: Final = 960
"""20 ms."""

SILK, HYBRID, CELT = 1000, 1001, 1002
_CELT_FRAMES: Final = (120, 240, 480, 960)
# RFC 6716 section 3.1: the first five bits of a packet say mode, bandwidth (1101 is narrow, 1105
# full) and frames.
CONFIGS: Final = (
    *[(SILK, band, frames) for band in (1101, 1102, 1103) for frames in (480, 960, 1920, 2880)],
    *[(HYBRID, band, frames) for band in (1104, 1105) for frames in (480, 960)],
    *[(CELT, band, frames) for band in (1101, 1103, 1104, 1105) for frames in _CELT_FRAMES],
)

# Numbers of libopus's opus_defines.h and opus_private.h.
SET_VBR: Final = 4006
_SET_BANDWIDTH: Final = 4008
_SET_DTX: Final = 4016
_FORCE_CHANNELS: Final = 4022
_FORCE_MODE: Final = 11002


def sine(frames: int, channels: int = 2, hz: float = 440.0) -> Pcm:
    """The same sine on every channel."""
    wave = LEVEL * np.sin(2 * np.pi * hz * np.arange(frames) / SAMPLE_RATE)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def strength(pcm: Pcm, hz: float = 440.0) -> float:
    """How much of its first channel is that tone: 1 for what `sine` makes."""
    turn = np.exp(-2j * np.pi * hz * np.arange(len(pcm)) / SAMPLE_RATE)
    return float(2 * abs(np.mean(pcm[:, 0] * turn)) / LEVEL)


def encoded(pcm: Pcm, encoder: OpusEncoder, packet_frames: int = PACKET_FRAMES) -> list[bytes]:
    """All of `pcm` as packets."""
    return [
        encoder.encode(pcm[at : at + packet_frames]) for at in range(0, len(pcm), packet_frames)
    ]


def configure(encoder: OpusEncoder, config: int, channels: int) -> None:
    """Have all packets from now on say that configuration and that many channels."""
    mode, bandwidth, _ = CONFIGS[config]
    settings = {_FORCE_MODE: mode, _SET_BANDWIDTH: bandwidth, _FORCE_CHANNELS: channels}
    for request, value in settings.items():
        control(encoder, request, value)


def encoder_of(config: int, channels: int) -> OpusEncoder:
    """An encoder for packets of one kind."""
    encoder = OpusEncoder(channels, "audio", 96_000)
    configure(encoder, config, channels)
    return encoder


def encoder_that_falls_silent(channels: int) -> OpusEncoder:
    """An encoder that sends packets of one byte while there is nothing to say (DTX)."""
    encoder = OpusEncoder(channels, "voip", 24_000)
    control(encoder, _SET_DTX, 1)
    return encoder


def control(encoder: OpusEncoder, request: int, value: int) -> None:
    """Set what stagebox leaves as libopus has it."""
    encoder._lib.control(encoder._lib.encoder_ctl, encoder._state, "test", request, value)


def configuration(packet: bytes) -> tuple[int, int]:
    """The index in `CONFIGS`, and the channels, that a packet says it has."""
    return packet[0] >> 3, 1 + (packet[0] >> 2 & 1)


def joined_packet(packets: list[bytes], padding: int | None = None) -> bytes:
    """One packet of the frames of several (RFC 6716 section 3.2.5, "code 3"), with padding."""
    first = packets[0][0]
    assert all(packet[0] == first for packet in packets), "one configuration"
    assert not first & 3, "one frame each"
    frames = [packet[1:] for packet in packets]
    sizes = b"" if _alike(frames) else b"".join(coded_size(len(frame)) for frame in frames[:-1])
    count = len(frames) | (0x80 if sizes else 0) | (0 if padding is None else 0x40)
    pad = b"" if padding is None else b"\xff" * (padding // 254) + bytes([padding % 254])
    return bytes([first | 3, count]) + pad + sizes + b"".join(frames) + bytes(padding or 0)


def _alike(frames: list[bytes]) -> bool:
    return len({len(frame) for frame in frames}) == 1


def coded_size(size: int) -> bytes:
    """A frame's length, as packets with several say it (RFC 6716 section 3.2.1)."""
    return bytes([size] if size < 252 else [252 + (size & 3), (size - 252) >> 2])


def reference(packets: Iterable[bytes], channels: int = 2) -> list[Pcm]:
    """What libopus makes of a stream, by way of opuslib's own classes."""
    decoder = opuslib.Decoder(SAMPLE_RATE, channels)
    return [
        np.frombuffer(decoder.decode_float(packet, MAX_PACKET_FRAMES), np.float32).reshape(
            -1, channels
        )
        for packet in packets
    ]


class Junk:
    """Random, truncated and bit-flipped packets: the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        # The second of each stream: it leans on the one before it.
        self._good = [
            encoded(sine(2 * CONFIGS[config][2], channels), encoder, CONFIGS[config][2])[1]
            for config in range(len(CONFIGS))
            for channels in (1, 2)
            for encoder in [encoder_of(config, channels)]
        ]

    def packets(self, count: int) -> Iterator[bytes]:
        """The next ones."""
        return (self._random.choice(self._kinds)(self) for _ in range(count))

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 300))

    def _truncated(self) -> bytes:
        packet = self._random.choice(self._good)
        return packet[: self._random.randint(1, len(packet) - 1)]

    def _flipped(self) -> bytes:
        packet = bytearray(self._random.choice(self._good))
        for _ in range(self._random.randint(1, 8)):
            packet[self._random.randrange(len(packet))] ^= 1 << self._random.randrange(8)
        return bytes(packet)

    _kinds = (_bytes, _truncated, _flipped)
