"""`stagebox monitor`: live meters for all that plays, and for the microphone."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from stagebox.meters import Meters

from . import options, terminal
from .bars import Bars, figures
from .screen import Screen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from stagebox.meters import Reading, Subject

    Show = Callable[[Sequence[Reading], float], None]

NAME: Final = "monitor"
HELP: Final = "meters for all that plays, live"
DESCRIPTION: Final = (
    "Show how loud the default sink, each application and each microphone of stagebox's is, with\n"
    "lost frames, underruns and latency, until Ctrl-C: on a terminal twenty times a second, into\n"
    "a pipe a table each second. Nothing is kept running by being looked at.\n\n"
    "--json prints an object a line, twenty times a second: time_ns (CLOCK_MONOTONIC), and rows,\n"
    "a list of objects:\n"
    "  kind         desktop, application or mic\n"
    "  id           the node's number in the graph; null where there is no default sink\n"
    "  name         the application's, or the node.name\n"
    "  pid          the application's process; null where it does not say\n"
    "  running      whether it plays; for a microphone, is recorded\n"
    "  peak_dbfs    since the last line; null is silence\n"
    "  rms_dbfs     of the loudest channel, in the same way\n"
    "  lost_frames  mic: cut to bound the delay; others: skipped while it played\n"
    "  underruns    mic: cycles that had too little to play, as last told; null for others\n"
    "  latency_ms   mic: what waited in its ring, as last told; others: how long ago the last\n"
    "               quantum that was read began, at worst of the last 20 times\n"
    "A microphone tells once a second, whichever process presents it."
)
EXAMPLE: Final = "stagebox monitor --json --seconds 10"

_PER_SECOND: Final = 20
_COLUMNS: Final = ("kind", "name", "pid", "peak", "rms", "lost", "underruns", "ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox monitor` understands."""
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("--seconds", type=options.seconds, metavar="S", help="stop after this long")
    options.add_remote(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show them until the wanted time, a signal, the daemon's end or the end of the pipe."""
    terminal.take_any_character()
    drawn = not arguments.json and sys.stdout.isatty()
    with (
        terminal.reader_may_leave(),
        Meters(remote=arguments.remote) as meters,
        _shown(drawn=drawn, as_json=arguments.json) as show,
    ):
        interval_s = 1 / _PER_SECOND if drawn or arguments.json else 1.0
        for now_s in _times(interval_s, arguments.seconds):
            show(meters.read(), now_s)
    return 0


def _times(interval_s: float, seconds: float | None) -> Iterator[float]:
    """Wait from one time to the next, which it yields; those that were missed are left out."""
    begin = at = time.monotonic()
    while seconds is None or at + interval_s <= begin + seconds + 1e-6:
        at += interval_s
        now = time.monotonic()
        if now > at:
            at += (now - at) // interval_s * interval_s
        time.sleep(max(0.0, at - now))
        yield at


def _shown(*, drawn: bool, as_json: bool) -> AbstractContextManager[Show]:
    if drawn:
        return _on_a_terminal()
    return contextlib.nullcontext(_print_json if as_json else _print_table)


@contextlib.contextmanager
def _on_a_terminal() -> Iterator[Show]:
    bars = Bars(coloured="NO_COLOR" not in os.environ)
    each_second = itertools.cycle(range(_PER_SECOND))
    size = shutil.get_terminal_size()
    with Screen() as screen:

        def show(readings: Sequence[Reading], now_s: float) -> None:
            nonlocal size
            if next(each_second) == 0:  # to ask costs as much as to draw a line
                size = shutil.get_terminal_size()
            screen.draw(bars.lines(readings, now_s, size.columns), size)

        yield show


def _print_json(readings: Sequence[Reading], now_s: float) -> None:
    rows = ", ".join(map(as_json, readings))
    line = f'{{"time_ns": {round(now_s * 1e9)}, "rows": [{rows}]}}\n'
    print(line, end="", flush=True)  # in one system call


def as_json(reading: Reading) -> str:
    """Return what `--json` prints of a reading.

    It is written by hand, but for what stays: twenty times a second that is half of the work.
    """
    return (
        f'{_subject_as_json(reading.of)}, "peak_dbfs": {_number(reading.peak_dbfs)}, '
        f'"rms_dbfs": {_number(reading.rms_dbfs)}, "lost_frames": {reading.lost_frames}, '
        f'"underruns": {"null" if reading.underruns is None else reading.underruns}, '
        f'"latency_ms": {_number(reading.latency_ms)}}}'
    )


@functools.lru_cache(maxsize=256)
def _subject_as_json(subject: Subject) -> str:
    return json.dumps(asdict(subject)).removesuffix("}")


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.2f}"


def _print_table(readings: Sequence[Reading], _: float) -> None:
    rows = [
        (of.kind, of.name, "" if of.pid is None else str(of.pid), *figures(each, each.peak_dbfs))
        for each, of in ((each, each.of) for each in readings)
    ]
    print(terminal.plain_table(_COLUMNS, rows), end="\n\n", flush=True)
