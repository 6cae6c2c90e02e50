"""The soak's picture: what was sampled, over time, one panel above the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .verdict import MICS, ON_TIME_MS, calm, memory_slope, warm, warm_up_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from .verdict import Check

_BLUE: Final = "#3b6ea5"
_GREEN: Final = "#2a8a5c"
_ORANGE: Final = "#d08a2c"
_RED: Final = "#b03030"
_GREY: Final = "#808080"

_MIC_COLOURS: Final = dict(zip(MICS, (_BLUE, _GREEN, _ORANGE), strict=True))


def draw(rows: NDArray[Any], results: Sequence[Check], path: Path) -> None:
    """Write one PNG."""
    figure = Figure(figsize=(13, 14), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(6, 1, sharex=True, height_ratios=(2, 1, 1.2, 1, 1.4, 1.2))
    inside = rows[1:-1]  # without the samples before the opening and after the closing
    minutes = inside["elapsed_s"] / 60
    _memory(panels[0], rows, inside, minutes)
    _heap(panels[1], inside, minutes)
    _counts(panels[2], inside, minutes)
    _lost(panels[3], inside, minutes)
    _underruns(panels[4], inside, minutes)
    _lateness(panels[5], inside, minutes)
    for axes in panels:
        _mark_restarts(axes, inside, minutes)
        axes.grid(alpha=0.25)
        axes.margins(x=0.005)
    panels[-1].set_xlabel("time, min (dashed red lines: the daemon was killed and restarted)")
    failed = [result.name for result in results if result.holds is False]
    figure.suptitle(
        f"A soak of {minutes[-1]:.0f} minutes: capture, two microphones, pump — "
        + (f"FAILED: {', '.join(failed)}" if failed else "nothing failed"),
        fontsize=15,
        fontweight="bold",
        color=_RED if failed else "#202020",
    )
    figure.savefig(path, dpi=72, pil_kwargs={"optimize": True})


def _memory(
    axes: Axes, rows: NDArray[Any], inside: NDArray[Any], minutes: NDArray[np.float64]
) -> None:
    axes.plot(minutes, inside["rss_kib"] / 1024, color=_BLUE, linewidth=1.2, label="resident")
    axes.axvspan(minutes[0], warm_up_s(rows) / 60, color=_GREY, alpha=0.15, label="warm-up")
    slope = memory_slope(rows)
    title = "resident memory of the process"
    if slope is not None:
        judged = rows["elapsed_s"][warm(rows)]
        ends = np.array([judged[0], judged[-1]])
        axes.plot(
            ends / 60,
            slope.start + slope.per_hour * ends / 3600,
            color=_RED,
            linewidth=2,
            label="fitted: warm, all open and once recorded",
        )
        title += f": {slope.per_hour:+.2f} ± {slope.error:.2f} MiB/h after the warm-up"
    axes.set_title(title)
    axes.set_ylabel("MiB")
    axes.legend(loc="lower right", ncols=3)


def _heap(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    axes.plot(minutes, inside["heap_kib"] / 1024, color=_BLUE, linewidth=1.2)
    axes.set_title(
        "malloc: given and not freed, used or not (a microphone takes more once it is recorded)"
    )
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=0)


def _counts(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    axes.step(minutes, inside["descriptors"], color=_BLUE, linewidth=1.2, label="descriptors")
    axes.step(minutes, inside["threads"], color=_ORANGE, linewidth=1.2, label="threads")
    axes.set_title("open descriptors (more while recorded) and threads")
    axes.set_ylabel("count")
    axes.set_ylim(0, 1.4 * float(inside["descriptors"].max()))
    axes.legend(loc="upper right", ncols=2)


def _lost(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    for name, label, colour in (
        ("capture_skipped", "skipped by the graph: the machine stalled", _GREY),
        ("capture_wrong", "not what was played", _ORANGE),
        ("capture_lost", "lost by the capture", _RED),
    ):
        total = int(inside[name].sum())
        _bars(axes, minutes, inside[name], colour, f"{label}: {total}")
    axes.set_title("frames that did not reach us, of 48 000 in a second")
    axes.set_ylabel("frames in a second")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", ncols=3)


def _underruns(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    top = 1.0
    for index, (voice, mic) in enumerate(MICS.items()):
        underruns = inside[f"{mic}_underruns"]
        top = max(top, float(underruns.max()))
        _bars(axes, minutes, underruns, _MIC_COLOURS[voice], f"{voice}: {int(underruns.sum())}")
        axes.fill_between(
            minutes,
            0,
            1,
            where=inside["recording"] == index + 1,
            step="post",
            color=_MIC_COLOURS[voice],
            alpha=0.12,
            transform=axes.get_xaxis_transform(),
        )
        unexcused = calm(inside, voice) & (underruns > 0)
        axes.plot(minutes[unexcused], underruns[unexcused], "x", color=_RED)
    axes.set_title("underruns (shaded: what is recorded; red crosses: in calm seconds, no excuse)")
    axes.set_ylabel("cycles in a second")
    axes.set_ylim(0, 1.35 * top)
    axes.legend(loc="upper right", ncols=3)


def _lateness(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    for voice, colour in _MIC_COLOURS.items():
        late = np.maximum(inside[f"{voice}_late_ms"], 0.5)
        axes.plot(minutes, late, ".", markersize=4, color=colour, label=voice)
    axes.axhline(ON_TIME_MS, color=_GREY, linewidth=1, label="on time: below")
    axes.set_yscale("log")
    axes.set_title("how late the soak itself sent a block or a packet, at most in each second")
    axes.set_ylabel("ms")
    axes.set_ylim(top=10_000)
    axes.legend(loc="upper right", ncols=4)


def _bars(
    axes: Axes, minutes: NDArray[np.float64], values: NDArray[Any], colour: str, label: str
) -> None:
    axes.vlines(minutes, 0, values, color=colour, linewidth=1.5, label=label)


def _mark_restarts(axes: Axes, inside: NDArray[Any], minutes: NDArray[np.float64]) -> None:
    for at in minutes[1:][np.diff(inside["restarting"]) > 0]:
        axes.axvline(at, color=_RED, linestyle="--", linewidth=1, alpha=0.6)
