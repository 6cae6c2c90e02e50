"""What a soak's samples say: what held, what did not, and what they are too few to tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MICS: Final = {"mic1": "mic1", "mic2": "mic2", "pump": "pump_mic"}
"""What sends -> the beginning of its microphone's columns."""

ON_TIME_MS: Final = 5
"""When something was sent later than this the machine may have caused an underrun."""

_FLAT_MIB_PER_HOUR: Final = 1.0
_WARM_UP_S: Final = 600.0
_WARM_UP_PART: Final = 1 / 3
_LEAST_FIT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through samples: `start + per_hour * hours`, and how sure that is."""

    start: float
    per_hour: float
    error: float


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that should hold. `holds` is None where the run was too short to tell."""

    name: str
    holds: bool | None
    text: str


def fit(hours: NDArray[np.float64], values: NDArray[np.float64]) -> Slope:
    """Fit a line by least squares; `error` is the slope's standard error.

    What a process takes hardly changes from one second to the next, so a thousand samples say
    less than a thousand independent ones would: the error takes their correlation into account.
    """
    spread = hours - hours.mean()
    weight = float((spread**2).sum())
    if len(values) < 3 or weight == 0:
        return Slope(float(values.mean()), 0.0, math.inf)
    per_hour = float((spread * values).sum()) / weight
    rest = values - values.mean() - per_hour * spread
    variance = float((rest**2).sum()) / (len(values) - 2)
    alike = min(max(_correlation(rest), 0.0), 1 - 2 / len(values))
    error = math.sqrt(variance / weight * (1 + alike) / (1 - alike))
    return Slope(float(values.mean() - per_hour * hours.mean()), per_hour, error)


def _correlation(rest: NDArray[np.float64]) -> float:
    """Return how much each value is like the one before it: 0 not at all, 1 entirely."""
    power = float((rest**2).sum())
    return float((rest[1:] * rest[:-1]).sum()) / power if power > 0 else 0.0


def warm_up_s(rows: NDArray[Any]) -> float:
    """Return when memory has found its level: after a third of the run, at most 10 minutes.

    And after the first restart: buffers that malloc mapped for the first connection, and left to
    the kernel to fill, come from its heaps for the next.
    """
    times = rows["elapsed_s"]
    restarting = rows["restarting"] > 0
    settled = np.flatnonzero(restarting[:-1] & ~restarting[1:])
    first = float(times[settled[0] + 1]) if len(settled) else 0.0
    return max(first, min(_WARM_UP_S, _WARM_UP_PART * float(times[-1])))


def warm(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples memory is judged by: after the warm-up, all open and once recorded."""
    alike = (rows["open_streams"] == 4) & (rows["recorded_mics"] == len(MICS))
    settled = (rows["restarting"] == 0) & (rows["elapsed_s"] >= warm_up_s(rows))
    return np.asarray(alike & settled)


def memory_slope(rows: NDArray[Any]) -> Slope | None:
    """Fit resident memory, in MiB; None when no sample is left to judge by."""
    judged = rows[warm(rows)]
    if not len(judged):
        return None
    return fit(judged["elapsed_s"] / 3600, judged["rss_kib"] / 1024)


def calm(rows: NDArray[Any], voice: str) -> NDArray[np.bool_]:
    """Return the seconds in which nothing excuses an underrun of that voice.

    The recorder was there and has been for a while, the daemon too, the graph skipped nothing,
    and no thread of the soak that sends was late, in that second and the one before.
    """
    excused = (rows["restarting"] > 0) | (rows["recorder_changed"] > 0)
    excused |= rows["recording"] != list(MICS).index(voice) + 1
    shaken = rows["capture_skipped"] > 0
    for sender in MICS:
        shaken |= rows[f"{sender}_late_ms"] > ON_TIME_MS
    shaken[1:] |= shaken[:-1].copy()
    return np.asarray(~excused & ~shaken)


def checks(rows: NDArray[Any]) -> list[Check]:
    """Judge a run by its samples, the first before anything was open, the last after all closed."""
    return [
        _memory(rows),
        _lost(rows),
        _sound(rows),
        _underruns(rows),
        _count(rows, "descriptors"),
        _count(rows, "threads"),
        _streams(rows),
    ]


def _memory(rows: NDArray[Any]) -> Check:
    slope = memory_slope(rows)
    if slope is None:
        return Check("memory", None, "no second after the warm-up in which all was open")
    times = rows["elapsed_s"][warm(rows)]
    span_s = float(times[-1] - times[0])
    text = (
        f"{slope.per_hour:+.2f} ± {slope.error:.2f} MiB/h (least squares, standard error) over "
        f"{span_s / 60:.1f} min after {warm_up_s(rows) / 60:.1f} min of warm-up"
    )
    return Check("memory", _is_flat(slope, span_s), text)


def _is_flat(slope: Slope, span_s: float) -> bool | None:
    if span_s < _LEAST_FIT_S:
        return None
    if abs(slope.per_hour) > _FLAT_MIB_PER_HOUR + 2 * slope.error:
        return False
    if 2 * slope.error > _FLAT_MIB_PER_HOUR:
        return None
    return abs(slope.per_hour) <= _FLAT_MIB_PER_HOUR


def _lost(rows: NDArray[Any]) -> Check:
    around = rows["restarting"] > 0
    lost = int(rows["capture_lost"][~around].sum())
    text = (
        f"{lost} of {int(rows['capture_frames'].sum())} frames, "
        f"and {int(rows['capture_lost'][around].sum())} around restarts"
    )
    return Check("lost frames", lost == 0, text)


def _sound(rows: NDArray[Any]) -> Check:
    wrong = int(rows["capture_wrong"][rows["restarting"] == 0].sum())
    skipped = int(rows["capture_skipped"].sum())
    text = f"{wrong} frames were not what was played; the machine had the graph skip {skipped}"
    return Check("sound", wrong == 0, text)


def _underruns(rows: NDArray[Any]) -> Check:
    in_all = calm_seconds = unexcused = 0
    for voice, mic in MICS.items():
        underruns, quiet = rows[f"{mic}_underruns"], calm(rows, voice)
        in_all += int(underruns.sum())
        calm_seconds += int(quiet.sum())
        unexcused += int(underruns[quiet].sum())
    recorded = int((rows["recording"] > 0).sum())
    text = (
        f"{unexcused} in {calm_seconds} calm of {recorded} recorded seconds, {in_all} in all "
        f"(calm: all settled, nothing skipped, nothing sent more than {ON_TIME_MS} ms late)"
    )
    return Check("underruns", unexcused == 0 if calm_seconds else None, text)


def _count(rows: NDArray[Any], name: str) -> Check:
    counts = rows[name].astype(int)
    before, after = counts[0], counts[-1]
    text = f"{before} before, {after} after"
    grown = False
    while_open = counts[warm(rows)]
    if len(while_open) >= _LEAST_FIT_S:
        # The least, not the most: that rises when one more is left each time.
        first, *_, last = (int(part.min()) for part in np.array_split(while_open, 4))
        grown = last > first
        text += f"; at least {first} in the first quarter and {last} in the last"
    return Check(name, bool(before == after and not grown), text)


def _streams(rows: NDArray[Any]) -> Check:
    settled = rows["restarting"][1:-1] == 0
    missing = int((rows["open_streams"][1:-1][settled] < 4).sum())
    restarts = int(np.count_nonzero(np.diff(rows["restarting"]) > 0))
    text = (
        f"not all four open in {missing} seconds outside of {restarts} restarts; "
        f"the pump opened {int(rows['pump_opens'].sum())} microphones"
    )
    return Check("streams", missing == 0, text)
