"""A turn: a contender talks into a microphone, a C program records it, and what came is matched."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stagebox import StageboxError

from .answer import Answer, Panel, machine
from .floor import build
from .talker import CABLE, COMMANDS, MIC, QUANTUM, SETTINGS
from .timeline import BLOCK, RATE_HZ, Blocks, Latencies, latencies_ms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from .answer import Target
    from .graph import BenchGraph
    from .rounds import Turns

WARM_UP_S: Final = 0.6

_LEAD_S: Final = 1.0
"""The recorder runs that much longer than the talker, which takes a moment to begin."""


@dataclass(frozen=True, slots=True)
class Said(Latencies):
    """What came of a turn, after its warm-up: from a block's being handed over to its recording.

    Attributes:
        underruns: cycles that had less than a quantum to play, and times the ring ran dry.
        late_ms: how much later than its due a block was handed over, at most.
    """

    underruns: int
    late_ms: float

    def figures(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {
            "latency_p50_ms": self.p50,
            "latency_p99_ms": self.p99,
            "underruns": self.underruns,
            "late_ms": self.late_ms,
            "lost_frames": self.lost,
        }


class Talking:
    """Has contenders talk, one at a time."""

    def __init__(self, graph: BenchGraph, scratch: Path) -> None:
        self._graph = graph
        self._scratch = scratch
        self._recorder = build("reader", scratch, "libpipewire-0.3")

    def turn(self, name: str, block: int, seconds: float) -> Said:
        """Have one talk for some seconds, in blocks of so many frames."""
        modules = self._make_cable() if name in COMMANDS else []
        try:
            told = self._talk(name, block, seconds, "--seconds", str(seconds))
        finally:
            for module in reversed(modules):
                self._graph.run("pactl", "unload-module", module)
        said, recorded = Blocks.load(self._said), Blocks.load(self._recorded)
        if not len(recorded):
            raise StageboxError(f"{name}: nothing was recorded")
        said = said.after(int(said.time_ns[0] + WARM_UP_S * 1e9))
        return Said(
            latencies_ms(said, recorded),
            recorded.lost,
            told.get("underruns", 0),
            lateness_ms(said.time_ns, block),
        )

    def passthrough(self, packets: Sequence[bytes], decoded: NDArray[np.float32]) -> Said:
        """Have the pump talk in packets that decode to `decoded`, `(packets, frames)`."""
        block = decoded.shape[1]
        seconds = len(packets) * block / RATE_HZ
        file = self._scratch / "packets.npy"
        np.save(file, np.array(packets, dtype=object), allow_pickle=True)
        told = self._talk("stagebox pump", block, seconds, "--packets", str(file))
        sent_ns = np.fromfile(self._said, BLOCK)["time_ns"]
        held_ns = held_when(decoded, np.fromfile(self._recorded, BLOCK), self._pcm)
        late = slice(round(WARM_UP_S * RATE_HZ / block), None)
        there = held_ns[late] > 0
        latency_ms = (held_ns[late] - sent_ns[late])[there] / 1e6
        lost = int((~there).sum()) * block
        return Said(latency_ms, lost, told["underruns"], lateness_ms(sent_ns[late], block))

    def _talk(self, name: str, block: int, seconds: float, *options: str) -> dict[str, Any]:
        for log in (self._said, self._recorded, self._pcm):
            log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.kit.talker", name, "--block", str(block)]
        talker = subprocess.Popen(
            [*command, "--log", str(self._said), *options],
            env=self._graph.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self._graph.wait_for_nodes(MIC)
            subprocess.run(
                [
                    *(str(self._recorder), MIC, str(QUANTUM), str(seconds + _LEAD_S)),
                    *(str(self._recorded), "--source", "--pcm", str(self._pcm)),
                ],
                env=self._graph.env,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            printed, complaints = talker.communicate(timeout=30)
        finally:
            talker.kill()
            talker.wait()
        if talker.returncode:
            raise StageboxError(f"{name}: {complaints.strip()[-1000:]}")
        told: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return told

    def _make_cable(self) -> list[str]:
        """Make a null sink and a source that is its monitor; return the modules."""
        load = ("pactl", "load-module")
        remap = (f"master={CABLE}.monitor", f"source_name={MIC}")
        return [
            self._graph.run(*load, "module-null-sink", f"sink_name={CABLE}").strip(),
            self._graph.run(*load, "module-remap-source", *remap).strip(),
        ]

    @property
    def _said(self) -> Path:
        return self._scratch / "said"

    @property
    def _recorded(self) -> Path:
        return self._scratch / "recorded"

    @property
    def _pcm(self) -> Path:
        return self._scratch / "recorded.f32"


def answer(
    name: str,
    question: str,
    turns: Turns[tuple[str, str], Said],
    targets: Sequence[Target],
    version: str,
) -> Answer:
    """Return what came of turns, whose cases are who talked and how long the blocks were."""
    names, lengths = (list(dict.fromkeys(part)) for part in zip(*turns.figures, strict=True))
    p50, p99 = attrgetter("p50"), attrgetter("p99")
    return Answer(
        name=name,
        question=question,
        how="From handing a block over to the recorder's holding its first frame, ms. "
        + "; ".join(f"{who}: {SETTINGS[who]}" for who in names)
        + ".",
        header=("microphone", *(f"{p}, {length}" for length in lengths for p in ("p50", "p99"))),
        rows=[
            (
                who,
                *(
                    turns.spread((who, length), at).text()
                    for length in lengths
                    for at in (p50, p99)
                ),
            )
            for who in names
        ],
        targets=targets,
        panels=[
            Panel(
                f"p50, blocks of {length}",
                "ms",
                {who: [said.p50 for said in turns[who, length]] for who in names},
            )
            for length in lengths
        ],
        figures={
            f"{who}, {length}": [said.figures() for said in saids]
            for (who, length), saids in turns.figures.items()
        },
        machine=machine(version),
    )


def lateness_ms(time_ns: NDArray[np.int64], block: int) -> float:
    """Return how much later than the earliest, measured by its due, the latest block was."""
    late_ms = time_ns / 1e6 - np.arange(len(time_ns)) * (1000 * block / RATE_HZ)
    return float(np.ptp(late_ms))


def held_when(decoded: NDArray[np.float32], log: NDArray[Any], pcm: Path) -> NDArray[np.int64]:
    """When the recorder held the first frame of each packet; 0 for one that is not there.

    Noise, decoded, has samples that hardly come twice: the first few of a packet name it.
    """
    log = log[log["frames"] > 0]
    recorded = np.fromfile(pcm, np.float32)
    ends = np.cumsum(log["frames"])
    order = np.argsort(recorded, kind="stable")
    ordered = recorded[order]
    held = np.zeros(len(decoded), np.int64)
    for number, packet in enumerate(decoded):
        low = np.searchsorted(ordered, packet[0], side="left")
        high = np.searchsorted(ordered, packet[0], side="right")
        for place in order[low:high]:
            if np.array_equal(recorded[place : place + 8], packet[:8]):
                held[number] = log["time_ns"][np.searchsorted(ends, place, side="right")]
                break
    return held
