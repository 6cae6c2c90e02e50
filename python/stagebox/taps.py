"""What listens to many nodes at once, and leaves them as they are.

A tap is a node that asks for no quantum, with links for whose sake nothing runs. It has columns,
each for one channel of one of the nodes it listens to, since a node of ours for each of theirs
would be woken as often as all of them. What one tap listens to belongs to one graph already, by
links that are there without us: it must not join what somebody wants apart.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final

from . import _native
from .errors import CaptureDied
from .layout import POSITIONS
from .routing import ROUTE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .graph_state import GraphState, Port
    from .routing import Ends

_PREFIX: Final = "tap-"
"""What the routes of taps begin with, and of no other captures."""

_COLUMNS: Final[tuple[int, ...]] = (2, 8, *range(12, 65, 4))
"""How many there may be. No more than are wanted: what nobody uses is moved about, too."""

MOST_COLUMNS: Final = max(_COLUMNS)

_KEPT_NS: Final = 250_000_000
"""How long a level stays where nothing comes: longer than the longest quantum, 8192 frames."""

_WORST_OF: Final = 20
"""Looks, of which the latency is the worst: it is another in each, as cycles come between them."""


def is_tap(state: GraphState, number: int) -> bool:
    """Whether a node is a tap, of whatever process."""
    return state.property_of(number, ROUTE).startswith(_PREFIX)


class Tap:
    """Listens in so many columns. For one thread."""

    def __init__(self, connection: _native.Connection, wanted: int) -> None:
        """Join the graph, with so many columns or some more. Raises PipeWireUnavailable."""
        self.columns = columns = next(count for count in _COLUMNS if count >= wanted)
        self._silence = [0.0] * columns
        self.peaks = self._silence
        """Of each column, since the last look."""
        self.squares = self._silence
        """The mean of each column, in the same way."""
        self.lost_frames = 0
        """That should have come while it listened, and did not."""
        self.latency_ms: float | None = None
        """How long ago the last quantum that was read had begun, at worst of the last 20 looks."""
        self.died = False
        """Somebody removed it from the graph, or the daemon has gone."""
        self._route = _PREFIX + os.urandom(8).hex()
        self._channels = POSITIONS.get(columns) or tuple(f"AUX{n}" for n in range(columns))
        self._capture = _native.Capture(
            connection,
            columns,
            target=None,
            route=self._route,
            quantum_frames=0,
            deadline=_native.Deadline(_native.OPEN_TIMEOUT),
        )
        self._measure = self._capture.measurer()
        self._links: dict[Ends, _native.Made] = {}
        self._heard_ns = 0
        self._absent = 0
        self._resumes = True  # what is missed until the next frames is no loss
        self._ages_ns: deque[int] = deque(maxlen=_WORST_OF)

    def link(
        self,
        connection: _native.Connection,
        state: GraphState,
        wanted: Iterable[tuple[Port, int]],
    ) -> None:
        """Listen to these ports, each in its column, and to no others."""
        inputs = {port.channel: port for port in state.inputs_of(ROUTE, self._route)}
        ends = {
            (output, inputs[self._channels[column]])
            for output, column in wanted
            if self._channels[column] in inputs
        }
        failed = {ends for ends, link in self._links.items() if link.error}
        for gone in (self._links.keys() - ends) | failed:
            self._links.pop(gone).close()
        for new in ends - self._links.keys():
            self._links[new] = _native.Made.link(connection, *new, passive=True)
        if not ends:
            self._resumes = True

    def look(self, now_ns: int) -> None:
        """Measure what has come since the last look."""
        try:
            frames, newest_ns, absent, peaks, squares = self._measure()
        except CaptureDied:
            self.died = True
            frames = 0
        if frames:
            self._heard_ns = now_ns
            self._ages_ns.append(now_ns - newest_ns)
            self.latency_ms = max(self._ages_ns) / 1e6
            if not self._resumes:
                self.lost_frames += absent - self._absent
            self._absent, self._resumes = absent, False
            self.peaks, self.squares = peaks, [square / frames for square in squares]
        elif now_ns - self._heard_ns > _KEPT_NS:
            self.peaks = self.squares = self._silence

    def take_over(self, other: Tap, columns: Iterable[tuple[int, int]], now_ns: int) -> None:
        """Show what another's columns do, until there is something to be heard in these."""
        self._heard_ns = now_ns
        self.peaks, self.squares = self._silence.copy(), self._silence.copy()
        for theirs, ours in columns:
            self.peaks[ours] = other.peaks[theirs]
            self.squares[ours] = other.squares[theirs]

    def close(self) -> None:
        """Leave the graph. Twice is fine."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._capture.close()
