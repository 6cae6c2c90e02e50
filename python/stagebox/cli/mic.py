"""`stagebox mic`: an audio file, or samples from a pipe, as a microphone."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stagebox import MIC_CHANNELS, OpusEncoder, open_virtual_mic
from stagebox.layout import MIC_CHANNEL_COUNTS, POSITIONS

from . import options, terminal
from .uplink import PACKET_FRAMES, PACKET_S, Uplink, in_packets, open_uplink, paced

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from numpy.typing import NDArray

NAME: Final = "mic"
HELP: Final = "play a file or a pipe into a microphone"
DESCRIPTION: Final = (
    "Present a microphone that every application can record, and play a file into it in real\n"
    "time: as 20 ms Opus packets, the way a remote voice arrives."
)
EXAMPLE: Final = "stagebox mic --loop voice.wav"

_PIPE: Final = "-"

# The encoder is some milliseconds behind, and the microphone's ring holds back some more:
# silence after the sound pushes both out.
_SILENT_PACKETS: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox mic` understands."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="an audio file of any rate; - reads raw interleaved float32 at 48 kHz from stdin",
    )
    parser.add_argument("--loop", action="store_true", help="play the file again and again")
    parser.add_argument(
        "--name",
        default="stagebox-mic",
        help="the node.name that programs select it by (default: %(default)s)",
    )
    parser.add_argument(
        "--description",
        metavar="TEXT",
        default="Stagebox Remote Microphone",
        help="the name that people see (default: %(default)s)",
    )
    parser.add_argument(
        "--channels",
        type=int,
        choices=MIC_CHANNEL_COUNTS,
        default=MIC_CHANNELS,
        help="mono or stereo (default: %(default)s)",
    )
    options.add_remote(parser)


def run(arguments: argparse.Namespace) -> int:
    """Play until the end of the sound, or a signal."""
    channels = arguments.channels
    open_mic = functools.partial(
        open_virtual_mic,
        name=arguments.name,
        description=arguments.description,
        remote=arguments.remote,
    )
    with contextlib.ExitStack() as stack:
        total_s, blocks = _sound(stack, arguments)
        encoder = OpusEncoder(channels, "audio")
        uplink = stack.enter_context(open_uplink(open_mic, channels))
        terminal.say(f"microphone {arguments.name} is ready")
        _tell()
        display = stack.enter_context(terminal.meter(POSITIONS[channels], total_s))
        _play(in_packets(blocks, channels, _SILENT_PACKETS), encoder, uplink, display)
    return 0


def _sound(
    stack: contextlib.ExitStack, arguments: argparse.Namespace
) -> tuple[float | None, Iterator[NDArray[np.float32]]]:
    """Return how many seconds there are, if that is known, and the PCM."""
    if arguments.file == _PIPE:
        if arguments.loop:
            raise ValueError("--loop needs a file: a pipe cannot be played again")
        if sys.stdin.isatty():
            raise ValueError("-: stdin is a terminal; pipe samples into it")
        return None, _from_stdin(arguments.channels)
    from . import audio_file  # noqa: PLC0415 - it needs an extra, which a pipe does not

    reader = stack.enter_context(audio_file.Reader(Path(arguments.file), arguments.channels))
    total_s = None if arguments.loop else reader.seconds
    return total_s, reader.blocks(loop=arguments.loop)


def _from_stdin(channels: int) -> Iterator[NDArray[np.float32]]:
    frame_bytes = 4 * channels
    while data := sys.stdin.buffer.read(PACKET_FRAMES * frame_bytes):
        whole = len(data) - len(data) % frame_bytes  # a writer may end amid a frame
        yield np.frombuffer(data[:whole], np.float32).reshape(-1, channels)


def _play(
    packets: Iterator[NDArray[np.float32]],
    encoder: OpusEncoder,
    uplink: Uplink,
    display: terminal.Display,
) -> None:
    dropped = 0
    for number, pcm in enumerate(paced(packets)):
        dropped += not uplink.send(encoder.encode(pcm))
        display.update(pcm, number * PACKET_S, _note(uplink, dropped))
    uplink.play_out()


def _note(uplink: Uplink, dropped: int) -> str:
    if uplink.pump.state != "running":
        return "the microphone is away, opening another"
    heard = "somebody records" if uplink.mic.state == "streaming" else "nobody records"
    return f"{heard}, {dropped} packets dropped"


def _tell() -> None:
    """Have the pump say on stderr when its microphone dies and when there is another."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("stagebox: %(message)s"))
    logger = logging.getLogger("stagebox")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
