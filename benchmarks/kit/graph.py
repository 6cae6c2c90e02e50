"""A private PipeWire for benchmarks: a fixed quantum, and the PulseAudio emulation beside it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from stagebox import PipeWireUnavailable
from stagebox.testing import PrivateGraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SINK: Final = PrivateGraph.sink

_PATIENCE_S: Final = 10.0


class BenchGraph:
    """What the contenders run on. Made by `bench_graph`."""

    def __init__(self, graph: PrivateGraph, pulse: subprocess.Popen[bytes]) -> None:
        self.remote = graph.remote
        self.pulse_pid = pulse.pid
        self.env = {
            **graph.env,
            "PULSE_SERVER": f"unix:{graph.directory / 'pulse' / 'native'}",
            "PULSE_SOURCE": f"{SINK}.monitor",
            "PULSE_SINK": SINK,
        }

    def run(self, *command: str) -> str:
        """Run one of PipeWire's own tools to its end and return what it printed."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PipeWireUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    @property
    def version(self) -> str:
        """PipeWire's."""
        return self.run("pipewire", "--version").split()[-1]

    def force_quantum(self, frames: int) -> None:
        """Have every cycle take that many frames, whatever anybody asks for."""
        self.run("pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(frames))

    @contextlib.contextmanager
    def program(self, *command: str, ends_s: float = 5.0) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program for as long as the block lasts."""
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(ends_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for_nodes(self, *names: str) -> None:
        """Wait until nodes of these names are in the graph."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            printed = self.run("pw-cli", "ls", "Node")
            missing = [name for name in names if f'"{name}"' not in printed]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise PipeWireUnavailable(f"{', '.join(missing)} did not appear")
            time.sleep(0.05)


def require(programs: Sequence[str]) -> None:
    """Raise PipeWireUnavailable when a program is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise PipeWireUnavailable(f"{', '.join(missing)} not found; install them with: make bench")


@contextlib.contextmanager
def bench_graph() -> Iterator[BenchGraph]:
    """Start a private daemon with a null sink and the PulseAudio emulation."""
    require(["pipewire-pulse", "pw-cli", "pw-metadata"])
    with PrivateGraph() as graph:
        log = graph.directory / "pipewire-pulse.log"
        with log.open("wb") as output:
            pulse = subprocess.Popen(
                ["pipewire-pulse"], env=graph.env, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            _wait_for(graph.directory / "pulse" / "native", pulse, log)
            yield BenchGraph(graph, pulse)
        finally:
            pulse.terminate()
            pulse.wait()


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise PipeWireUnavailable(f"pipewire-pulse did not come up: {log.read_text().strip()}")
        time.sleep(0.02)
