"""From the command line to a command, and from what goes wrong to one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from stagebox import StageboxError

from . import apps, demo, devices, doctor, mic, monitor, record, restore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_EXTRAS: Final = {"rich": "cli", "soundfile": "cli", "soxr": "cli", "matplotlib": "demo"}
"""Package -> the extra of stagebox it comes with."""

_FAILED: Final = 1
_SIGNALLED: Final = 128
"""What a shell adds to the number of the signal that ended a program."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed (one line on stderr says why).

    A signal's is 128 and its number, so 130 for Ctrl-C. Wrong usage raises SystemExit(2).
    """
    arguments = _parser().parse_args(argv)
    with _ended_by_signals():
        try:
            code: int = arguments.run(arguments)
        except KeyboardInterrupt:
            return _SIGNALLED + signal.SIGINT
        except (StageboxError, ValueError, OSError) as error:
            return _fail(_told(error))
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            return _fail(f"{error.name} is not installed: pip install 'stagebox[{extra}]'")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stagebox",
        description="What a PipeWire desktop plays as sound to record, and sound as a microphone.",
        epilog="example:\n  stagebox demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = importlib.metadata.version("stagebox")
    parser.add_argument("--version", action="version", version=f"stagebox {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (record, mic, devices, apps, monitor, doctor, restore, demo):
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have a request to end unwind the program, so that files and nodes are closed."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_SIGNALLED + number)

    # One that is ignored stays so: that is how nohup works.
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split())


def _fail(message: str) -> int:
    print(f"stagebox: {message}", file=sys.stderr)
    return _FAILED
