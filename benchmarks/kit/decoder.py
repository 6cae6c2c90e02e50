"""One contender decodes packets, in a process of its own.

    python -m benchmarks.kit.decoder CONTENDER FILE --block 960 --times 4

FILE holds packets, each after its length (uint32). Prints the CPU that one took, as JSON.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .timeline import RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FRAMES: Final = 5760

BATCH: Final = 64
"""Packets sent at once: what the pump's queue holds. Waking a thread takes a virtual machine as
long as decoding a packet or two, whatever the language; that is not what is asked here."""


def load(path: Path) -> list[bytes]:
    """Read the packets."""
    data, packets, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("=I", data, at)
        packets.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return packets


def save(packets: Sequence[bytes], path: Path) -> None:
    """Write what `load` and opus_loop.c read."""
    path.write_bytes(b"".join(struct.pack("=I", len(packet)) + packet for packet in packets))


class CountingMic:
    """A microphone that takes everything, and says when a batch has come."""

    alive = True
    channels = 2
    stats = None

    def __init__(self) -> None:
        self.blocks = 0
        self.batch_came = threading.Event()

    def push(self, _pcm: object) -> bool:
        """Take a block."""
        self.blocks += 1
        if self.blocks % BATCH == 0:
            self.batch_came.set()
        return True

    def discard(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def pump(packets: Sequence[bytes], _block: int, times: int) -> float:
    """Through this project's pump, its queue and its state machine; CPU in seconds, once warm."""
    from stagebox import MicPump

    mic = CountingMic()
    batches = [packets[at : at + BATCH] for at in range(0, len(packets), BATCH)]
    with MicPump.start(lambda _channels: mic) as running, running.sender() as sender:
        while running.stats.state != "running":
            time.sleep(0.01)
        begin = 0.0
        for at, batch in enumerate(batches * (1 + times)):
            if at == len(batches):
                begin = time.process_time()
            mic.batch_came.clear()
            for packet in batch:
                if not sender.try_send(packet):
                    raise RuntimeError("the queue is full")
            mic.batch_came.wait()
        return time.process_time() - begin


def opuslib_any(packets: Sequence[bytes], _block: int, times: int) -> float:
    """With opuslib.Decoder, told the longest packet there can be: a pump's may have any length."""
    return opuslib(packets, MAX_FRAMES, times)


def opuslib(packets: Sequence[bytes], block: int, times: int) -> float:
    """With opuslib.Decoder, told each packet's length; CPU in seconds, once warm."""
    from opuslib import Decoder

    decoder = Decoder(RATE_HZ, 2)
    begin = 0.0
    for at, packet in enumerate(list(packets) * (1 + times)):
        if at == len(packets):
            begin = time.process_time()
        decoder.decode_float(packet, block)
    return time.process_time() - begin


CONTENDERS: Final[dict[str, Any]] = {
    "stagebox pump": pump,
    "opuslib.Decoder, any length": opuslib_any,
    "opuslib.Decoder, told the length": opuslib,
}


def main() -> int:
    """Decode as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kit.decoder", description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--block", type=int, required=True, help="frames in a packet")
    parser.add_argument("--times", type=int, default=4)
    options = parser.parse_args()
    packets = load(options.file)
    cpu_s = CONTENDERS[options.contender](packets, options.block, options.times)
    print(json.dumps({"us": cpu_s * 1e6 / len(packets) / options.times}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
