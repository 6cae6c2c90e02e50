"""A sink of our own: as many channels as a capture wants, the default while it is open.

applications -> the sink -> its monitor -> the capture
                                        -> what was the default before (keep_local)
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from typing import TYPE_CHECKING, Final

from . import _native, claims, routing
from .errors import PipeWireUnavailable
from .layout import POSITIONS, SAMPLE_RATE
from .ledger import OWN_SINK, Held

if TYPE_CHECKING:
    from .graph_state import GraphState

_RUNS_WITHIN_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.005
_SETTLED_FRAMES: Final = SAMPLE_RATE * 3 // 10
"""After so much a player that was moved was never silent, in 63 attempts; at once, in 7 of 49."""


class OwnSink:
    """The sink, the default as long as it is open; it ends with the process in any case."""

    def __init__(
        self, sink: _native.Made, claim: claims.Claim, playthrough: routing.Router | None
    ) -> None:
        """For `opened()`."""
        self._sink = sink
        self._claim = claim
        self._playthrough = playthrough

    def close(self) -> None:
        """Put back the default that was, then remove it. Twice is fine."""
        try:
            self._claim.release()
        finally:
            if self._playthrough is not None:
                self._playthrough.close()
            self._sink.close()


def opened(
    channels: int, quantum_frames: int, remote: str | os.PathLike[str] | None, *, keep_local: bool
) -> tuple[_native.Capture, OwnSink]:
    """Make a sink and capture it, then make it the default."""
    deadline = _native.Deadline(_native.OPEN_TIMEOUT)
    connection = _native.connect(remote, deadline)
    with contextlib.ExitStack() as undo:
        with claims.at_desk(connection.path) as desk:
            held = Held(os.urandom(8).hex(), desk.free_sink_name())
            sink = _native.Made.node(connection, _properties(held, channels))
            undo.callback(sink.close)
            if not desk.wait_for_sink(held.name, sink, deadline):
                reason = sink.error or f"the daemon did not in {_native.OPEN_TIMEOUT:g} s"
                raise PipeWireUnavailable(f"the sink could not be made: {reason}")
            native = _native.Capture(
                connection, channels, held.name, None, quantum_frames, deadline
            )
            undo.callback(native.close)
            _wait_until_it_runs(native)
            claim = desk.claim("sink", held)
            undo.callback(claim.release)
        playthrough = _played_through(held.name, claim.device, remote) if keep_local else None
        undo.pop_all()
    return native, OwnSink(sink, claim, playthrough)


def _wait_until_it_runs(capture: _native.Capture) -> None:
    """A player that is moved to a sink just made may stay silent for good (PipeWire 0.3.65).

    Not for long: where there is no session manager it never runs, and the claim will say so.
    """
    deadline = _native.Deadline(_RUNS_WITHIN_S)
    while capture.stats().frames < _SETTLED_FRAMES and not deadline.passed:
        time.sleep(_LOOK_AGAIN_S)


def _properties(held: Held, channels: int) -> dict[str, str]:
    return {
        "factory.name": "support.null-audio-sink",
        "media.class": "Audio/Sink",
        "node.name": held.name,
        "node.description": "Stagebox",
        "audio.rate": str(SAMPLE_RATE),
        "audio.channels": str(channels),
        "audio.position": f"[ {' '.join(POSITIONS[channels])} ]",
        claims.CLAIM: held.token,
        # We capture it as it is played, whatever volume the user gives it; so do the ears.
        "monitor.channel-volumes": "false",
        "state.restore-props": "false",
        # never the default for any other reason than a claim
        "priority.session": "1",
        # Its clock drives all that is linked to it, above that of any device (up to 20000): where
        # that goes, PipeWire 0.3.65 may leave out players for good when it gives them another.
        "priority.driver": "30000",
    }


def _played_through(
    name: str, device: str | None, remote: str | os.PathLike[str] | None
) -> routing.Router:
    connection = _native.connect(remote, _native.Deadline(_native.OPEN_TIMEOUT), "graph")
    return routing.Router(connection, functools.partial(wanted, sink=name, device=device))


def wanted(state: GraphState, sink: str, device: str | None) -> set[routing.Ends]:
    """Links from the sink's monitor to the device.

    Where that is unplugged they go to what would be the default without us; and where it is a
    filter that plays into the default, which is us, to what is not: that would come back.
    """
    names = sorted(state.sinks_by_priority(), key=lambda name: name != device)
    into = next(
        (
            name
            for name in names
            if not name.startswith(OWN_SINK) and not state.feeds(name, into=sink)
        ),
        None,
    )
    if into is None:
        return set()
    inputs = state.inputs_of("node.name", into)
    return routing.links(state.outputs_of("node.name", sink), inputs)
