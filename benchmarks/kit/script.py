"""The command line of each script: one question, asked alone or by `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stagebox import StageboxError

from .rounds import LEAST_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answer import Answer

RESULTS: Final = Path(__file__).parents[1] / "results"

_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Options:
    """What every script is told.

    Attributes:
        rounds: how many turns each contender has.
        scale: of each turn's duration.
        scratch: a directory for programs and logs, gone at the end.
    """

    rounds: int
    scale: float
    scratch: Path


def run(ask: Callable[[Options], Answer], doc: str | None) -> int:
    """Be a script: ask, print, write; 0 when every target was reached, else 1."""
    first, _, rest = (doc or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=_rounds, default=LEAST_ROUNDS, help="turns of each (default: 5)")
    add("--scale", type=_scale, default=1.0, help="how much longer each turn takes (default: 1)")
    add("--json", action="store_true", help="print JSON with every round's figures")
    add("--output", type=Path, default=RESULTS, help="directory for the table and the picture")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="stagebox-bench-") as scratch:
            answer = ask(Options(arguments.rounds, arguments.scale, Path(scratch)))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (StageboxError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    answer.write(arguments.output)
    print(answer.json() if arguments.json else answer.markdown())
    return 0 if all(target.holds for target in answer.targets) else 1


def _rounds(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"use 1 or more, not {text}")
    return value


def _scale(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"use 0.1 to 100, not {text}")
    return value
