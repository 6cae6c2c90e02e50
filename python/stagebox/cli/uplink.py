"""A pump, a sender and a microphone: what the commands that speak send their packets into."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from stagebox import MIC_CHANNELS, SAMPLE_RATE, MicPump, PipeWireUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from stagebox import MicSender, MicStats, PumpStats
    from stagebox.mic import PipeWireMic

_Item = TypeVar("_Item")

PACKET_FRAMES: Final = 960
"""20 ms, what voice clients send."""

PACKET_S: Final = PACKET_FRAMES / SAMPLE_RATE

_DEBT_S: Final = 0.2
"""Later than this is a stall, which is skipped: a burst would only be cut by the microphone."""

_OPEN_S: Final = 5.0
_PLAY_OUT_S: Final = 1.0
_POLL_S: Final = 0.01

_LAST_QUANTUM_S: Final = 0.1
"""What left the microphone's ring is with the recorder at the latest after this."""


class Uplink:
    """An open microphone that packets can be sent to. Made by `open_uplink`."""

    def __init__(self, pump: MicPump, sender: MicSender, opener: _Opener) -> None:
        """Not for callers: use `open_uplink`."""
        self._pump = pump
        self._sender = sender
        self._opener = opener

    def send(self, packet: bytes) -> bool:
        """Hand over one packet; False when it was dropped."""
        return self._sender.try_send(packet)

    @property
    def mic(self) -> MicStats:
        """The counters of the microphone that was opened last."""
        return self._opener.mic.stats

    @property
    def pump(self) -> PumpStats:
        """The counters of the pump."""
        return self._pump.stats

    def play_out(self) -> None:
        """Wait until a recorder, if there is one, has got everything."""
        wait_until(lambda: not self._pending(), _PLAY_OUT_S)
        time.sleep(_LAST_QUANTUM_S)

    def _pending(self) -> bool:
        mic = self.mic
        return bool(self.pump.queued or (mic.depth and mic.state == "streaming"))


class _Opener:
    """Opens microphones for a pump, which keeps to itself what goes wrong."""

    mic: PipeWireMic

    def __init__(self, open_mic: Callable[[int], PipeWireMic]) -> None:
        self._open_mic = open_mic
        self.error: Exception | None = None

    def __call__(self, channels: int) -> PipeWireMic:
        try:
            self.mic = self._open_mic(channels)
        except Exception as error:
            self.error = error
            raise
        return self.mic


@contextlib.contextmanager
def open_uplink(
    open_mic: Callable[[int], PipeWireMic], channels: int = MIC_CHANNELS
) -> Iterator[Uplink]:
    """Open a microphone behind a pump, and close both again at the end.

    Raises what `open_mic(channels)` raised the first time; later the pump tries again.
    """
    opener = _Opener(open_mic)
    with MicPump.start(opener, channels=channels) as pump:
        wait_until(lambda: pump.stats.opens or opener.error, _OPEN_S)
        if opener.error is not None:
            raise opener.error
        if not pump.stats.opens:
            raise PipeWireUnavailable(f"the microphone did not open within {_OPEN_S:g} s")
        with pump.sender() as sender:
            yield Uplink(pump, sender, opener)


def wait_until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Poll until the condition is true; False when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def paced(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield one item every 20 ms: the k-th at the start and k times 20 ms, without drift."""
    due = time.monotonic()
    for item in items:
        late = time.monotonic() - due
        if late > _DEBT_S:
            due += late
        elif late < 0:
            time.sleep(-late)
        yield item
        due += PACKET_S


def in_packets(
    blocks: Iterable[NDArray[np.float32]], channels: int, silent_packets: int = 0
) -> Iterator[NDArray[np.float32]]:
    """Cut blocks of any length into packets' worth; silence fills the last, and follows it."""
    rest = np.empty((0, channels), np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= PACKET_FRAMES:
            yield rest[:PACKET_FRAMES]
            rest = rest[PACKET_FRAMES:]
    if len(rest):
        yield np.concatenate([rest, np.zeros((PACKET_FRAMES - len(rest), channels), np.float32)])
    for _ in range(silent_packets):
        yield np.zeros((PACKET_FRAMES, channels), np.float32)
