"""`stagebox demo`: the main job on real audio, both ways, measured and drawn."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stagebox.testing import PrivateGraph

from . import compare, options, programs, terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from .ways import Outcome, Place

NAME: Final = "demo"
HELP: Final = "prove that sound goes out and in, and draw it"
DESCRIPTION: Final = (
    "Play a sound with pw-play and capture it, and at the same time send a voice as Opus packets\n"
    "into our microphone and record that with pw-record. Compare both with what was sent."
)
EXAMPLE: Final = "stagebox demo --out /tmp/stagebox-demo"

_SECONDS: Final = range(1, 61)

_GAPS_ALLOWED: Final = 0.1
"""What part of a sound a busy player may leave out and play late."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two directions, and what is asked of it.

    Attributes:
        name, path: for the table and for the picture.
        file: the recording's name.
        needed: the least similarity.
        lossless: whether no frame may be lost.
    """

    name: str
    path: str
    file: str
    needed: float
    lossless: bool


DESKTOP: Final = Way(
    "desktop → capture",
    "Desktop out: pw-play → sink → stagebox capture",
    "desktop-out.wav",
    0.99,  # bit-exact but for the sink's volume
    lossless=True,
)
VOICE: Final = Way(
    "voice → microphone",
    "Voice in: Opus packets → stagebox pump → microphone → pw-record",
    "voice-in.wav",
    0.90,  # Opus keeps how it sounds, not the wave
    lossless=False,
)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A way, how it went, and why that is wrong; no faults when it is right."""

    way: Way
    outcome: Outcome
    faults: tuple[str, ...]


def judged(way: Way, outcome: Outcome) -> Result:
    """Say what is wrong with the way it went."""
    faults = []
    if outcome.match.similarity < way.needed:
        faults.append(f"similarity {outcome.match.similarity:.4f} is below {way.needed:.2f}")
    if way.lossless and outcome.lost_frames:
        faults.append(f"{outcome.lost_frames} frames lost")
    if outcome.gap_frames > _GAPS_ALLOWED * len(outcome.sent):
        faults.append(f"{outcome.gap_frames} frames of silence in the sound")
    return Result(way, outcome, tuple(faults))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox demo` understands."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("stagebox-demo"),
        metavar="DIR",
        help="where both recordings and the picture go (default: %(default)s)",
    )
    parser.add_argument(
        "--here",
        action="store_true",
        help="use this session's PipeWire and default sink, not a private one: you will hear it",
    )
    parser.add_argument(
        "--seconds",
        type=options.seconds,
        default=4.0,
        metavar="S",
        help="how long the sounds are, 1 to 60 (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run both ways; 0 when both are right."""
    if not _SECONDS[0] <= arguments.seconds <= _SECONDS[-1]:
        raise ValueError(f"--seconds: use {_SECONDS[0]} to {_SECONDS[-1]}, not {arguments.seconds}")
    # They need extras; better to know now than after the sound.
    import soundfile  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from . import picture  # noqa: PLC0415

    programs.require_programs()
    arguments.out.mkdir(parents=True, exist_ok=True)
    terminal.take_any_character()
    console = Console(highlight=False)
    results = _measured(console, arguments)
    console.print(_table(results))
    console.print(_explained(results), style="dim", soft_wrap=True)
    _print_faults(console, results)
    for result in results:
        soundfile.write(
            arguments.out / result.way.file, result.outcome.received, 48_000, subtype="FLOAT"
        )
    with console.status("drawing"):
        picture.draw(results, arguments.out / "stagebox-demo.png")
    files = ", ".join([*(result.way.file for result in results), "stagebox-demo.png"])
    console.print(f"written to {arguments.out}: {files}", soft_wrap=True)
    return 1 if any(result.faults for result in results) else 0


def _print_faults(console: Console, results: list[Result]) -> None:
    for result in results:
        for fault in result.faults:
            console.print(f"{result.way.name}: {fault}", style="red")


def _measured(console: Console, arguments: argparse.Namespace) -> list[Result]:
    with console.status("starting PipeWire") as status, _place(here=arguments.here) as place:
        status.update(f"playing and recording for {arguments.seconds:g} s")
        results = _results(place, arguments.seconds)
        if any(result.faults for result in results):
            # A machine that stalls for a moment has the graph skip a cycle. Not twice, though.
            _print_faults(console, results)
            console.print("once more, in case the machine was busy for a moment")
            place.stop.clear()
            results = _results(place, arguments.seconds)
    return results


@contextlib.contextmanager
def _place(*, here: bool) -> Iterator[Place]:
    from .ways import Place  # noqa: PLC0415 - it needs an extra

    if here:
        yield Place(os.environ, None, threading.Event())
        return
    with PrivateGraph() as graph:
        yield Place(graph.env, graph.remote, threading.Event())


def _results(place: Place, seconds: float) -> list[Result]:
    from . import ways  # noqa: PLC0415 - it needs an extra

    desktop, voice = ways.both(place, seconds)
    return [judged(DESKTOP, desktop), judged(VOICE, voice)]


def _table(results: list[Result]) -> Table:
    from rich import box  # noqa: PLC0415 - it needs an extra
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.ROUNDED)
    table.add_column("way", no_wrap=True)
    for title in ("frames", "lost", "level\ndBFS", "delay\nms", "similarity"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for result in results:
        outcome = result.outcome
        table.add_row(
            result.way.name,
            str(len(outcome.received)),
            str(outcome.lost_frames),
            f"{compare.level_dbfs(outcome.match.aligned):.1f}",
            f"{outcome.delay_ms:.1f}",
            f"{outcome.match.similarity:.4f}",
            "[red]FAILED[/]" if result.faults else "[green]ok[/]",
        )
    return table


def _explained(results: list[Result]) -> str:
    from .ways import QUANTUM_FRAMES  # noqa: PLC0415 - it needs an extra

    lines = [
        f"delay: the median, in a graph asked for a quantum of {QUANTUM_FRAMES} frames;",
        "  desktop: from the start of the graph cycle that plays a sound until we have it;",
        "  voice: from a packet handed to the pump until its first sample is read from",
        "  pw-record's pipe, 6.5 ms of the Opus encoder's look-ahead included.",
        f"similarity: cross-correlation, {DESKTOP.needed:.2f} and {VOICE.needed:.2f} are needed; "
        "voice in pieces of",
        "  a quarter of a second, for a microphone's buffer may cut or fill in a little.",
    ]
    gap_frames = sum(result.outcome.gap_frames for result in results)
    if gap_frames:
        lines.append(f"pw-play was late: {gap_frames} frames of silence amid its sound left out.")
    return "\n".join(lines)
