"""How much of what was sent arrived, where, and how loud: plain measuring with numpy."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

GAP_FRAMES: Final = 64
"""Exact silence this long inside a sound is a gap: no zero crossing lasts a millisecond."""

_ELASTIC_FRAMES: Final = 4800
"""How far a piece may be from where the whole was found: 0.1 s."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Where a signal was found in a recording.

    Attributes:
        similarity: the normalised cross-correlation there: 1 is the same up to the volume, 0 is
            something else.
        aligned: what the recording has there, as long as the signal, silence where it has none.
        lags_frames: for each of the signal's frames, by how many the recording has it later.
    """

    similarity: float
    aligned: NDArray[Any]
    lags_frames: NDArray[np.int64]


def match(sent: NDArray[Any], received: NDArray[Any]) -> Match:
    """Find `sent` in `received`, both `(frames, channels)` with as many channels."""
    lag = _best_lag(sent, received)
    aligned = excerpt(received, lag, len(sent))
    return Match(_similarity(sent, aligned), aligned, np.full(len(sent), lag, np.int64))


def match_pieces(sent: NDArray[Any], received: NDArray[Any], piece_frames: int) -> Match:
    """Find `sent` as `match` does, then each piece of it a little before or after that.

    For what went through a buffer that cuts or fills in a little when it is time to.
    """
    first = _best_lag(sent, received) - _ELASTIC_FRAMES
    pieces = []
    for start in range(0, len(sent), piece_frames):
        piece = sent[start : start + piece_frames]
        near = excerpt(received, start + first, len(piece) + 2 * _ELASTIC_FRAMES)
        found = match(piece, near)
        pieces.append(Match(found.similarity, found.aligned, found.lags_frames + first))
    aligned = np.concatenate([piece.aligned for piece in pieces])
    lags_frames = np.concatenate([piece.lags_frames for piece in pieces])
    return Match(_similarity(sent, aligned), aligned, lags_frames)


def _similarity(one: NDArray[Any], other: NDArray[Any]) -> float:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    return float(np.sum(one * other)) / scale if scale else 0.0


def excerpt(pcm: NDArray[Any], start: int, frames: int) -> NDArray[Any]:
    """Return `frames` frames of `pcm` from `start` on, silence where it has none."""
    out = np.zeros((frames, *pcm.shape[1:]), pcm.dtype)
    first, end = max(start, 0), min(start + frames, len(pcm))
    if first < end:
        out[first - start : end - start] = pcm[first:end]
    return out


def without_gaps(pcm: NDArray[Any]) -> NDArray[Any]:
    """Cut out gaps: `GAP_FRAMES` and more of exact silence between sounds, not at the ends."""
    silent = np.asarray(~np.any(pcm, axis=1))
    edges = np.flatnonzero(np.diff(silent)) + 1
    keep = np.ones(len(pcm), bool)
    for start, end in itertools.pairwise(edges.tolist()):
        if silent[start] and end - start >= GAP_FRAMES:
            keep[start:end] = False
    return pcm[keep]


def level_dbfs(pcm: NDArray[Any]) -> float:
    """RMS over everything, in dB relative to 1.0; silence is -inf."""
    power = float(np.mean(np.square(pcm, dtype=np.float64))) if pcm.size else 0.0
    return 10 * math.log10(power) if power else -math.inf


def _best_lag(sent: NDArray[Any], received: NDArray[Any]) -> int:
    size = 1 << (len(sent) + len(received) - 1).bit_length()
    spectrum = np.fft.rfft(received, size, axis=0) * np.conj(np.fft.rfft(sent, size, axis=0))
    correlation = np.fft.irfft(spectrum.sum(axis=1), size)
    lag = int(np.argmax(correlation))
    return lag if lag < len(received) else lag - size
