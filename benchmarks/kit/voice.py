"""Sound for the benchmarks that decode: noise like a voice's, as Opus packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stagebox import OpusDecoder, OpusEncoder
from stagebox.opus import MAX_PACKET_FRAMES

from .timeline import RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BITRATE = 96_000


def packets(block: int, count: int) -> list[bytes]:
    """Return stereo packets of so many frames each: tones that wander, and noise."""
    chance = np.random.default_rng(1)
    time_s = np.arange(block * count) / RATE_HZ
    voice = 0.2 * np.sin(2 * np.pi * (180 * time_s + 8 * np.sin(3 * time_s)))
    pcm = voice[:, None] + chance.normal(0, 0.05, (block * count, 2))
    encoder = OpusEncoder(2, "audio", BITRATE)
    return [
        encoder.encode(np.ascontiguousarray(part, np.float32))
        for part in pcm.reshape(count, block, 2)
    ]


def decoded(packets: Sequence[bytes], block: int) -> NDArray[np.float32]:
    """Return what a decoder makes of them, the first channel: `(packets, frames)`."""
    decoder = OpusDecoder(2)
    pcm = np.empty((MAX_PACKET_FRAMES, 2), np.float32)
    lines = np.empty((len(packets), block), np.float32)
    for number, packet in enumerate(packets):
        decoder.decode(packet, pcm)
        lines[number] = pcm[:block, 0]
    return lines
