"""`stagebox record`: what the desktop plays, into a file or a pipe."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from stagebox import CHANNELS, SAMPLE_RATE, CaptureDied, open_audio_capture
from stagebox.layout import POSITIONS

from . import options, terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from stagebox import AudioCapturer

NAME: Final = "record"
HELP: Final = "record what the desktop plays"
DESCRIPTION: Final = (
    "Record what the default sink plays, or another sink, or some applications, until Ctrl-C or\n"
    "for some seconds.\n"
    "The file is valid however the recording ends."
)
EXAMPLE: Final = "stagebox record --seconds 10 desktop.flac"

_PIPE: Final = "-"

# Nobody listens to a file while it is written: long quanta spare the processor.
_FILE_QUANTUM_FRAMES: Final = 1024
_PIPE_QUANTUM_FRAMES: Final = 240

_WAITING: Final = "waiting for a sink"
_WAITS_TOLD: Final = 10

_WAIT_S: Final = 0.1
"""How long the meter may stand still while nothing comes."""


class _Output(Protocol):
    def write(self, pcm: NDArray[np.float32]) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox record` understands."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a .wav (32-bit float), .flac (24 bits) or .ogg (Vorbis) file, replaced if it is "
        "there; - writes raw interleaved float32 at 48 kHz to stdout",
    )
    parser.add_argument(
        "--channels",
        type=int,
        choices=sorted(POSITIONS),
        default=CHANNELS,
        help="mono, stereo, 5.1 or 7.1 (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=options.seconds, metavar="S", help="stop after this much sound"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--target", metavar="NODE.NAME", help="the sink to record (default: the default sink)"
    )
    what.add_argument(
        "--app",
        action="append",
        type=_application,
        metavar="APP",
        help="record this application alone, by name, binary or process id, whatever sink it plays "
        "into; may be given several times",
    )
    what.add_argument(
        "--except-app",
        action="append",
        type=_application,
        metavar="APP",
        help="record all applications but this one; may be given several times",
    )
    what.add_argument(
        "--own-sink",
        action="store_true",
        help="record a sink made for it with exactly --channels, which is the default meanwhile: "
        "a game gets its 5.1 or 7.1 whatever the hardware has. It is heard on the device that was "
        "the default too",
    )
    options.add_remote(parser)


def _application(text: str) -> str | int:
    """A process id is what is a number."""
    return int(text) if text.isdecimal() else text


def run(arguments: argparse.Namespace) -> int:
    """Record until the wanted length, a signal, or the end of the pipe."""
    to_pipe = arguments.file == _PIPE
    _check(arguments.file)
    with open_audio_capture(
        arguments.channels,
        target=arguments.target,
        apps=arguments.app,
        except_apps=arguments.except_app,
        sink="own" if arguments.own_sink else None,
        keep_local=arguments.own_sink,
        quantum_frames=_PIPE_QUANTUM_FRAMES if to_pipe else _FILE_QUANTUM_FRAMES,
        remote=arguments.remote,
    ) as capture:
        recording = _Recording(capture, arguments.file, arguments.seconds)
        try:
            recording.run()
        except CaptureDied as error:
            raise CaptureDied(f"{error}; {recording.summary()}") from error
        except BrokenPipeError:
            return 0  # whoever reads has had enough
        except (KeyboardInterrupt, SystemExit):
            terminal.say(recording.summary())
            raise
        terminal.say(recording.summary())
    return 0


def _check(file: str) -> None:
    """Refuse what cannot be written before anything opens."""
    if file != _PIPE:
        from . import audio_file  # noqa: PLC0415 - it needs an extra, which a pipe does not

        audio_file.check_writable(Path(file))
    elif sys.stdout.isatty():
        raise ValueError("-: stdout is a terminal; pipe the samples into something")


class _Recording:
    """One capture on its way into one output."""

    def __init__(self, capture: AudioCapturer, file: str, seconds: float | None) -> None:
        self._capture = capture
        self._file = file
        self._seconds = seconds
        self._frames = 0

    def run(self) -> None:
        """Copy until the wanted frames are there."""
        positions = POSITIONS[self._capture.channels]
        with self._output() as output, terminal.meter(positions, self._seconds) as display:
            for pcm in self._blocks():
                output.write(pcm)
                self._frames += len(pcm)
                display.update(pcm, self._frames / SAMPLE_RATE, self._note())

    def summary(self) -> str:
        """Say in a few words what was recorded."""
        frames = self._written()
        return (
            f"recorded {frames / SAMPLE_RATE:.2f} s "
            f"({frames} frames, {self._capture.stats.lost} lost) to "
            f"{'stdout' if self._file == _PIPE else self._file}"
        )

    def _written(self) -> int:
        """Return the frames in the output; a signal may come between a write and our count."""
        path = Path(self._file)
        if self._file == _PIPE or not path.is_file():
            return self._frames
        from . import audio_file  # noqa: PLC0415 - it needs an extra, which a pipe does not

        return audio_file.length(path)

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield what comes, none now and then, up to exactly the wanted frames."""
        wanted = sys.maxsize if self._seconds is None else round(self._seconds * SAMPLE_RATE)
        waits = 0
        while self._frames < wanted:
            pcm = self._capture.next_chunk(_WAIT_S).pcm[: wanted - self._frames]
            waits += not len(pcm)
            if waits == _WAITS_TOLD and not self._frames:
                terminal.say(f"{_WAITING}: is there one, and a session manager?")
            yield pcm

    def _note(self) -> str:
        stats = self._capture.stats
        if stats.state != "streaming":
            return _WAITING
        return f"{stats.lost} frames lost"

    def _output(self) -> AbstractContextManager[_Output]:
        if self._file == _PIPE:
            return _stdout()
        from . import audio_file  # noqa: PLC0415 - it needs an extra, which a pipe does not

        return audio_file.Writer(Path(self._file), self._capture.channels)


class _Stdout:
    def write(self, pcm: NDArray[np.float32]) -> None:
        sys.stdout.buffer.write(pcm.data)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _stdout() -> Iterator[_Stdout]:
    try:
        yield _Stdout()
    except BrokenPipeError:
        terminal.forget_stdout()
        raise
