"""A turn: a ramp plays, a contender reads it, and what it had when is worked out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stagebox import StageboxError

from .floor import build
from .graph import SINK
from .reader import CONTENDERS, HURRIED, LEAST, WARM_UP_S
from .timeline import (
    BLOCK,
    Blocks,
    Latencies,
    Mark,
    Read,
    ages_ms,
    latencies_ms,
    marks_of,
    percentile,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .graph import BenchGraph

FLOOR: Final = "floor (C)"
STAGEBOX: Final = "stagebox"
READERS: Final = (
    *(STAGEBOX, FLOOR),
    *(name for name in CONTENDERS if name not in {STAGEBOX, HURRIED, LEAST}),
)


@dataclass(frozen=True, slots=True)
class Heard(Latencies):
    """What a reader had of a turn, after its warm-up: from a quantum's being written.

    Attributes:
        age_ms: of each block's oldest frame, when the reader held the block.
        dropped: of the lost frames those that the reader itself says it was too late for, not
            cycles that were missed; 0 where it does not say.
        delivered: frames that were.
        cpu: of a core, its own and its helpers'.
        server_cpu: of a core, of the PulseAudio emulation.
        open_s: how long its open took, where it says so.
    """

    age_ms: NDArray[np.float64]
    dropped: int
    delivered: int
    cpu: float
    server_cpu: float
    open_s: float

    def age(self, at: float) -> float:
        """A percentile of the ages, ms."""
        return percentile(self.age_ms, at)

    def figures(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {
            "latency_p50_ms": self.p50,
            "latency_p99_ms": self.p99,
            "age_p99_ms": self.age(99),
            "lost_frames": self.lost,
            "dropped_frames": self.dropped,
            "delivered_frames": self.delivered,
            "cpu_of_a_core": self.cpu,
            "server_cpu_of_a_core": self.server_cpu,
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """What reading took in a turn, after its warm-up.

    Attributes:
        read: how much of what there was.
        dropped: frames that the reader itself says it was too late for; 0 where it does not say.
        cpu: of a core, its own and its helpers'.
        server_cpu: of a core, of the PulseAudio emulation.
    """

    read: Read
    dropped: int
    cpu: float
    server_cpu: float

    def figures(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {
            "read_frames": self.read.frames,
            "played_frames": self.read.played,
            "due_frames": self.read.due,
            "lost_frames": self.read.lost,
            "dropped_frames": self.dropped,
            "cpu_of_a_core": self.cpu,
            "server_cpu_of_a_core": self.server_cpu,
        }


class Listening:
    """Has contenders read, one at a time."""

    def __init__(self, graph: BenchGraph, scratch: Path) -> None:
        self._graph = graph
        self._played, self._held = scratch / "played", scratch / "held"
        self._player = build("player", scratch, "libpipewire-0.3")
        self._floor = build("reader", scratch, "libpipewire-0.3")

    def turn(self, name: str, quantum: int, seconds: float, busy_threads: int = 0) -> Heard:
        """Have one read for some seconds; the floor has no threads that could be busy."""
        options = ["--log", str(self._held), "--busy", str(busy_threads)]
        cost = self._read(name, quantum, seconds, *options)
        written, had = Blocks.load(self._played), Blocks.load(self._held)
        if not len(had):
            raise StageboxError(f"{name} heard nothing")
        had = had.after(int(had.time_ns[0] + WARM_UP_S * 1e9))
        return Heard(
            latency_ms=latencies_ms(written, had),
            age_ms=ages_ms(written, had),
            lost=had.lost,
            dropped=cost.get("lost") or 0,
            delivered=had.delivered,
            cpu=cost["cpu_s"] / cost["wall_s"],
            server_cpu=cost.get("server_cpu_s", 0.0) / cost["wall_s"],
            open_s=cost.get("open_s", 0.0),
        )

    def cost(self, name: str, quantum: int, seconds: float) -> Cost:
        """Have one read for some seconds and count, with nothing noted but by the floor."""
        cost = self._read(name, quantum, seconds)
        marks = [Mark(**mark) for mark in cost["marks"]] if name != FLOOR else self._floor_marks()
        if len(marks) < 2:
            raise StageboxError(f"{name} did not hear sound from the warm-up to the end")
        return Cost(
            read=Read.between(marks[0], marks[-1]),
            dropped=cost["lost"] or 0,
            cpu=cost["cpu_s"] / cost["wall_s"],
            server_cpu=cost.get("server_cpu_s", 0.0) / cost["wall_s"],
        )

    def _floor_marks(self) -> list[Mark]:
        marks = marks_of(np.fromfile(self._held, BLOCK))
        return [mark for mark in marks if mark.time_ns >= marks[0].time_ns + WARM_UP_S * 1e9]

    def _read(self, name: str, quantum: int, seconds: float, *options: str) -> dict[str, Any]:
        if name == FLOOR:
            command = [str(self._floor), SINK, str(quantum), str(seconds), str(self._held)]
        else:
            command = [sys.executable, "-m", "benchmarks.kit.reader", name, *options]
            command += ["--quantum", str(quantum), "--seconds", str(seconds)]
            command += ["--server", str(self._graph.pulse_pid)]
        self._held.unlink(missing_ok=True)
        with self._graph.program(str(self._player), SINK, str(quantum), str(self._played)):
            self._graph.wait_for_nodes("bench-player")
            return self._run(name, command, seconds)

    def _run(self, name: str, command: list[str], seconds: float) -> dict[str, Any]:
        done = subprocess.run(
            command,
            env=self._graph.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
        if done.returncode:
            raise StageboxError(f"{name}: {done.stderr.strip()[-1000:]}")
        cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return cost
