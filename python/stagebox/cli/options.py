"""Options that several commands have."""

from __future__ import annotations

import argparse
import math

from stagebox import SAMPLE_RATE


def seconds(text: str) -> float:
    """Read a length of sound: one frame or more."""
    value = float(text)
    frames = value * SAMPLE_RATE
    if not (math.isfinite(frames) and round(frames) >= 1):
        raise argparse.ArgumentTypeError(f"use seconds above 0, not {text}")
    return value


def add_remote(parser: argparse.ArgumentParser) -> None:
    """Add `--remote`."""
    parser.add_argument(
        "--remote", metavar="R", help="name or socket of another PipeWire than the session's"
    )
