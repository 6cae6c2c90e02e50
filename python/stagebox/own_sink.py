"""A sink of our own: as many channels as a capture wants, the default while it is open.

applications -> the sink -> its monitor -> the capture
                                        -> what was the default before (keep_local)
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from . import _native, claims, routing
from .errors import PipeWireUnavailable
from .layout import POSITIONS, SAMPLE_RATE

if TYPE_CHECKING:
    import os

    from .graph_state import GraphState


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
        self._claim.release()
        if self._playthrough is not None:
            self._playthrough.close()
        self._sink.close()


def opened(
    channels: int, quantum_frames: int, remote: str | os.PathLike[str] | None, *, keep_local: bool
) -> tuple[_native.Capture, OwnSink]:
    """Make a sink and capture it, then make it the default."""
    deadline = _native.Deadline(_native.OPEN_TIMEOUT)
    connection = _native.connect(remote, deadline)
    with claims.at_desk(remote) as desk:
        name = desk.free_sink_name()
        sink = _native.Made.node(connection, _properties(name, channels))
        if not desk.wait_for_sink(name, deadline):
            reason = sink.error or f"the daemon did not make it in {_native.OPEN_TIMEOUT:g} s"
            raise PipeWireUnavailable(f"the sink could not be made: {reason}")
        native = _native.Capture(connection, channels, name, None, quantum_frames, deadline)
        with _native.closed_on_failure(native):
            claim = desk.claim("sink", name)
            playthrough = _played_through(name, claim.device, remote) if keep_local else None
    return native, OwnSink(sink, claim, playthrough)


def _properties(name: str, channels: int) -> dict[str, str]:
    return {
        "factory.name": "support.null-audio-sink",
        "media.class": "Audio/Sink",
        "node.name": name,
        "node.description": "Stagebox",
        "audio.rate": str(SAMPLE_RATE),
        "audio.channels": str(channels),
        "audio.position": f"[ {' '.join(POSITIONS[channels])} ]",
        # whatever volume the user gives it: that is for the ears
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

    Where that is unplugged they go to what would be the default without us.
    """
    others = [name for name in state.sinks_by_priority() if not name.startswith(claims.OWN_SINK)]
    if not others:
        return set()
    into = device if device in others else others[0]
    inputs = state.inputs_of("node.name", into)
    return routing.links(state.outputs_of("node.name", sink), inputs)
