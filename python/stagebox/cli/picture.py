"""The demo's picture: what was sent beside what was received, for both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stagebox import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

    from .demo import Result

_SENT_COLOUR: Final = "#3b6ea5"
_RECEIVED_COLOUR: Final = "#2a8a5c"

_COLUMNS: Final = 1200
"""An envelope's points: a little more than a panel has pixels."""

_WINDOW_FRAMES: Final = 1024
_HOP_FRAMES: Final = 256
_TOP_HZ: Final = 10_000
_RANGE_DB: Final = 80.0


def draw(results: Sequence[Result], path: Path) -> None:
    """Write one PNG: a band for each way; waveform and spectrogram, sent left, received right."""
    figure = Figure(figsize=(13, 4.8 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    bands = figure.subfigures(len(results), 1, squeeze=False)
    for band, result in zip(bands[:, 0], results, strict=True):
        _draw_way(band, result)
    figure.savefig(path, dpi=100)


def _draw_way(band: SubFigure, result: Result) -> None:
    outcome = result.outcome
    verdict = "FAILED" if result.faults else "ok"
    band.suptitle(
        f"\n{result.way.path}\nsimilarity {outcome.match.similarity:.4f} · "
        f"delay {outcome.delay_ms:.1f} ms · {verdict}",
        fontsize=13,
        fontweight="bold",
        color="#a02020" if result.faults else "#202020",
    )
    axes = band.subplots(2, 2, sharex=True, sharey="row", height_ratios=(1, 1.3))
    for column, (title, pcm, colour) in enumerate(
        (
            ("sent", outcome.sent, _SENT_COLOUR),
            ("received", outcome.match.aligned, _RECEIVED_COLOUR),
        )
    ):
        axes[0, column].set_title(title)
        _draw_envelope(axes[0, column], pcm, colour)
        _draw_spectrogram(axes[1, column], pcm)
    axes[0, 0].set_ylabel("amplitude")
    axes[1, 0].set_ylabel("frequency, kHz")


def _draw_envelope(axes: Axes, pcm: NDArray[np.float32], colour: str) -> None:
    """Draw from the lowest to the highest sample in each slice of time."""
    mono = pcm.mean(axis=1)
    slices = np.array_split(mono, _COLUMNS)
    seconds = np.linspace(0, len(mono) / SAMPLE_RATE, len(slices))
    axes.fill_between(
        seconds,
        [float(np.min(part, initial=0)) for part in slices],
        [float(np.max(part, initial=0)) for part in slices],
        color=colour,
        linewidth=0.4,
    )
    axes.set_xlim(0, len(mono) / SAMPLE_RATE)
    axes.grid(alpha=0.25)


def _draw_spectrogram(axes: Axes, pcm: NDArray[np.float32]) -> None:
    levels = _spectrogram_db(pcm.mean(axis=1))
    axes.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(0, len(pcm) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000),
        vmin=-_RANGE_DB,
        vmax=0,
        cmap="magma",
    )
    axes.set_ylim(0, _TOP_HZ / 1000)
    axes.set_xlabel("time, s")


def _spectrogram_db(mono: NDArray[np.float32]) -> NDArray[np.float64]:
    """Frequency by time, in dB below the loudest."""
    windows = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW_FRAMES)[::_HOP_FRAMES]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW_FRAMES), axis=1)).T
    loudest = max(float(spectra.max()), 1e-9)
    return np.asarray(20 * np.log10(np.maximum(spectra / loudest, 1e-6)))
