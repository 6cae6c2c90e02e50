"""How loud the desktop, each application and each microphone of stagebox's is, and how it fares.

with Meters() as meters:
    for reading in meters.read():
        print(reading.of.kind, reading.of.name, reading.peak_dbfs)
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from . import _native
from .graph_state import GraphState, records_in
from .layout import SAMPLE_RATE
from .taps import MOST_COLUMNS, Tap, is_tap
from .unshared import Unshared

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from .graph_state import MicCounters, Port

DESKTOP: Final = "desktop"
APPLICATION: Final = "application"
MICROPHONE: Final = "mic"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        kind: "desktop" (the default sink), "application" or "mic".
        id: the node's number in the graph; None where there is no default sink.
        name: the application's, or the node's; "" where there is no default sink.
        pid: the application's process; None where it does not say, or it is none.
        running: whether it plays, or for a microphone is recorded.
    """

    kind: str
    id: int | None
    name: str
    pid: int | None
    running: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """How it is now.

    Attributes:
        of: what.
        peak_dbfs: the loudest sample since the last look, on whatever channel, in dB relative to
            1.0. None: nothing was heard.
        rms_dbfs: the loudest channel's root mean square over that time, in the same way.
        lost_frames: for a microphone those that were cut from its ring to bound the delay, since
            it was opened; else those that should have come while it played and did not, for the
            graph skipped cycles or we were late, since we began to listen.
        underruns: a microphone's cycles that had less than a quantum to play; None for others.
        latency_ms: for a microphone what waited in its ring when it last told; else how long ago
            the last quantum that was read had begun, at worst of the last 20 looks. None: nothing
            was heard yet, or it does not run.
    """

    of: Subject
    peak_dbfs: float | None = None
    rms_dbfs: float | None = None
    lost_frames: int = 0
    underruns: int | None = None
    latency_ms: float | None = None


def dbfs(amplitude: float) -> float | None:
    """An amplitude in dB relative to 1.0; None for silence."""
    return 20 * math.log10(amplitude) if amplitude > 0 else None


class Meters(Unshared):
    """Measures all there is; a context manager, for one thread.

    What runs is listened to, and left as it was: nothing runs for the sake of being measured, nor
    with another quantum.

    Of what plays into one sink 64 channels are listened to: the sink's own, and those of the
    applications that came first; others have no level.
    """

    def __init__(self, *, remote: str | os.PathLike[str] | None = None) -> None:
        """Begin to listen on the daemon `remote`, as for `open_audio_capture`.

        Raises PipeWireUnavailable: no library, no daemon, or no answer within 5 s; and
        UnsupportedPlatform: not Linux.
        """
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        self._streams = _native.connect(remote, deadline)
        self._graph = _native.connect(remote, deadline, "graph")
        self._groups: dict[int, _Group] = {}
        self._rows: list[_Row] = []
        self._begin()

    def read(self) -> list[Reading]:
        """Look: the desktop, then the applications, then the microphones, each as they came.

        To be called twenty times a second, at least once in two seconds. It waits for nothing but
        nodes of its own that it opens for what has come, some milliseconds. Raises GraphClosed once
        it is closed, DaemonAbsent once the daemon is gone, and PipeWireUnavailable where that does
        not answer.
        """
        try:
            changed = self._take()
        except OverflowError:  # nobody looked for hours
            self._begin()
            changed = False
        if changed or any(group.tap.died for group in self._groups.values()):
            self._arrange()
        now_ns = time.monotonic_ns()
        for group in self._groups.values():
            group.tap.look(now_ns)
        return [row.reading() for row in self._rows]

    def close(self) -> None:
        """Listen no more. Twice is fine."""
        self._feed.close()
        self._forget_all()

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    # --- what is there -----------------------------------------------------------------------

    def _begin(self) -> None:
        self._forget_all()
        self._feed = _native.Feed(self._graph)
        self._state = GraphState()
        deadline = _native.Deadline(_native.OPEN_TIMEOUT)
        self._feed.sync(deadline)
        self._take()
        while not self._state.complete:
            self._feed.sync(deadline)
            self._take()
        self._arrange()

    def _take(self) -> bool:
        """Take what has been told; whether that was anything."""
        records = self._feed.take()
        if not records:
            return False
        for record in records_in(records):
            self._state.apply(record)
        return True

    def _arrange(self) -> None:
        """Know what there is; listen to what runs, and to nothing else."""
        self._rows = list(self._found())
        grouped: dict[int, list[_Row]] = {}
        for row in self._rows:
            into = self._last_group(row) if row.group is None else row.group
            if into is not None and row.outputs:
                grouped.setdefault(into, []).append(row)
        for gone in self._groups.keys() - grouped.keys():
            self._groups.pop(gone).tap.close()
        for into, rows in grouped.items():
            if into not in self._groups:
                self._groups[into] = _Group(Tap(self._streams, _columns(rows)))
            group = self._groups[into]
            group.seat(rows, self._streams)
            group.tap.link(self._graph, self._state, [each for row in rows for each in row.wanted])

    def _last_group(self, row: _Row) -> int | None:
        """Where one that pauses was listened to, and will be."""
        return next((n for n, group in self._groups.items() if row.id in group.places), None)

    def _found(self) -> Iterator[_Row]:
        state = self._state
        sink = state.snapshot().default_sink
        if sink is None:
            yield _Row(-1, Subject(DESKTOP, None, "", None, running=False))
        else:
            running = sink.state == "running"
            subject = Subject(DESKTOP, sink.id, sink.name, None, running)
            yield _Row(sink.id, subject, sink.id if running else None, state.plays_through(sink.id))
        for application, outputs in state.applications():
            name, pid, running = application.name, application.pid or None, application.playing
            # One that plays into nothing else is not made to run by us, which our links would do:
            # from 0.3.70 on a daemon has no passive ones from an application.
            others = [to for to in state.linked_to(application.id) if not is_tap(state, to)]
            group = others[0] if others and running else None
            subject = Subject(APPLICATION, application.id, name, pid, running)
            yield _Row(application.id, subject, group, outputs)
        for source, counters in state.microphones():
            running = source.state == "running"
            subject = Subject(MICROPHONE, source.id, source.name, None, running)
            group = source.id if running else None
            yield _Row(source.id, subject, group, state.plays_through(source.id), counters)

    def _forget_all(self) -> None:
        while self._groups:
            self._groups.popitem()[1].tap.close()


@dataclass(slots=True)
class _Row:
    """A node that is measured, until something changes in the graph."""

    id: int
    subject: Subject
    group: int | None = None  # what it is linked to, while it is to be listened to
    outputs: tuple[Port, ...] = ()
    counters: MicCounters | None = None
    place: _Place | None = None

    @property
    def wanted(self) -> Iterator[tuple[Port, int]]:
        """The ports to listen to, each with its column."""
        if self.place is not None and self.group is not None:
            yield from zip(self.outputs, self.place.columns, strict=False)

    def reading(self) -> Reading:
        """What it is like now."""
        place, told = self.place, self.counters
        peak = rms = latency = None
        if place is not None and place.columns and self.group is not None:
            tap, columns = place.tap, place.columns
            peak = dbfs(max(map(tap.peaks.__getitem__, columns)))
            rms = dbfs(math.sqrt(max(map(tap.squares.__getitem__, columns))))
            latency = tap.latency_ms
        if told is not None:
            delay = told.depth_frames / SAMPLE_RATE * 1000 if self.subject.running else None
            return Reading(self.subject, peak, rms, told.lost_frames, told.underruns, delay)
        lost = 0 if place is None else place.lost_frames
        return Reading(self.subject, peak, rms, lost, None, latency)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node is listened to."""

    tap: Tap
    columns: tuple[int, ...]
    """One for each of its ports; fewer where so many play that there are no more."""
    lost_before: int
    """What the tap had lost when it came, less what it had lost itself in another."""

    @property
    def lost_frames(self) -> int:
        return self.tap.lost_frames - self.lost_before


class _Group:
    """The nodes that one tap listens to."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.places: dict[int, _Place] = {}

    def seat(self, rows: list[_Row], connection: _native.Connection) -> None:
        """Give each row a place, in another tap if need be: one that is wider, or lives."""
        before, old = self.places, self.tap
        if old.died or _columns(rows) > old.columns:
            self.tap = Tap(connection, _columns(rows))
        stays = before if self.tap is old else {}
        kept = {
            row.id: stays[row.id].columns[: len(row.outputs)] for row in rows if row.id in stays
        }
        taken = set(itertools.chain.from_iterable(kept.values()))
        free = iter(sorted(set(range(self.tap.columns)) - taken))
        self.places = {}
        for row in rows:
            have = kept.get(row.id, ())
            more = itertools.islice(free, len(row.outputs) - len(have))
            lost = before[row.id].lost_frames if row.id in before else 0
            row.place = _Place(self.tap, (*have, *more), self.tap.lost_frames - lost)
            self.places[row.id] = row.place
        if self.tap is not old:
            moved = (
                (before[n].columns, self.places[n].columns) for n in before if n in self.places
            )
            pairs = (pair for columns in moved for pair in zip(*columns, strict=False))
            self.tap.take_over(old, pairs, time.monotonic_ns())
            old.close()


def _columns(rows: list[_Row]) -> int:
    """How many these need."""
    return min(sum(len(row.outputs) for row in rows), MOST_COLUMNS)
