"""What the demo plays: a little music and something like speech, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stagebox import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SEED: Final = 48_000

_SCALE_HZ: Final = (220.0, 261.6, 293.7, 329.6, 392.0, 440.0, 523.3, 587.3)
_NOTE_S: Final = 0.2
_SWEEP_HZ: Final = (150.0, 9_000.0)

_VOWELS_HZ: Final = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410))
"""The first three formants of a, i, e and o (Peterson and Barney 1952, men)."""
_FORMANT_WIDTHS_HZ: Final = (80.0, 110.0, 160.0)


def music(seconds: float) -> NDArray[np.float32]:
    """Stereo at 48 kHz: a plucked melody on the left; another one and a sweep on the right."""
    frames = round(seconds * SAMPLE_RATE)
    random = np.random.default_rng(_SEED)
    left = 0.5 * _melody(frames, random)
    right = 0.4 * _melody(frames, random) + 0.1 * _sweep(frames)
    faded = np.stack([left, right], axis=1) * _fade(frames, 0.01)[:, np.newaxis]
    return np.asarray(faded, np.float32)


def _melody(frames: int, random: np.random.Generator) -> NDArray[np.float64]:
    out = np.zeros(frames)
    for start in range(0, frames, round(_NOTE_S * SAMPLE_RATE)):
        length = min(SAMPLE_RATE, frames - start)  # after a second nobody hears it any more
        time = np.arange(length) / SAMPLE_RATE
        pitch_hz, loudness = random.choice(_SCALE_HZ), random.uniform(0.2, 1)
        partials = sum(
            np.sin(2 * np.pi * k * pitch_hz * time) * np.exp(-5.0 * k * time) / k
            for k in range(1, 6)
        )
        out[start : start + length] += loudness * partials * np.minimum(time / 0.004, 1)
    return np.asarray(out / np.abs(out).max())


def _sweep(frames: int) -> NDArray[np.float64]:
    low_hz, high_hz = _SWEEP_HZ
    pitch_hz = low_hz * (high_hz / low_hz) ** np.linspace(0, 1, frames)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE))


def speech(seconds: float) -> NDArray[np.float32]:
    """Mono at 48 kHz: syllables of a buzz shaped by vowels' formants, and hisses between."""
    frames = round(seconds * SAMPLE_RATE)
    random = np.random.default_rng(_SEED)
    out = np.zeros(frames)
    for start, length in _syllables(frames, random):
        vowel_hz = _VOWELS_HZ[random.integers(len(_VOWELS_HZ))]
        out[start : start + length] += _shaped(
            _buzz(length, random), np.array(vowel_hz, np.float64)
        )
        hiss = random.uniform(0, 0.06) * _bright(random.normal(0, 1, length // 4))
        out[start : start + len(hiss)] += hiss * _fade(len(hiss), 0.01)
    return np.asarray(0.6 * out / np.abs(out).max(), np.float32)


def _syllables(frames: int, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield first frame and length of each: about four a second, with a pause now and then."""
    start = round(0.05 * SAMPLE_RATE)
    while True:
        length = round(random.uniform(0.14, 0.28) * SAMPLE_RATE)
        if start + length > frames:
            return
        yield start, length
        pause_s = random.choice((0.02, 0.04, 0.2), p=(0.5, 0.35, 0.15))
        start += length + round(pause_s * SAMPLE_RATE)


def _buzz(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """What the glottis gives: pulses whose pitch falls over the syllable."""
    pitch_hz = random.uniform(105, 150) * np.linspace(1.1, 0.9, length)
    phase = np.cumsum(pitch_hz) / SAMPLE_RATE % 1
    # Rosenberg's pulse: it opens slowly, closes fast, and rests for the other third.
    opening = 0.5 - 0.5 * np.cos(np.pi * phase / 0.45)
    closing = np.cos(np.pi / 2 * (phase - 0.45) / 0.2)
    flow = np.where(phase < 0.45, opening, np.where(phase < 0.65, closing, 0))
    return np.asarray(np.diff(flow, prepend=0) * _fade(length, 0.03))


def _shaped(source: NDArray[np.float64], formants_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pass `source` through a resonance at each formant, and level it."""
    hz = np.fft.rfftfreq(2 * len(source), 1 / SAMPLE_RATE)
    response = np.ones(len(hz), complex)
    for formant_hz, width_hz in zip(formants_hz, _FORMANT_WIDTHS_HZ, strict=True):
        response /= 1 - (hz / formant_hz) ** 2 + 1j * hz * width_hz / formant_hz**2
    voiced = np.fft.irfft(np.fft.rfft(source, 2 * len(source)) * response)[: len(source)]
    return np.asarray(voiced / np.abs(voiced).max() * _fade(len(source), 0.02))


def _bright(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep what is above 3 kHz."""
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE) < 3_000] = 0
    return np.asarray(np.fft.irfft(spectrum, len(noise)))


def _fade(frames: int, seconds: float) -> NDArray[np.float64]:
    """Rise from 0 to 1 in `seconds`, and back at the end."""
    position = np.arange(frames)
    edge = np.minimum(position, frames - 1 - position) / (seconds * SAMPLE_RATE)
    return np.asarray(np.minimum(edge, 1))
