"""What goes on around a host: a player, a recorder that comes and goes, a daemon that restarts."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from stagebox import PipeWireUnavailable

from .part import Part
from .ramp import write_ramp

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from stagebox.testing import PrivateGraph

RESTART_SETTLES_S: Final = 5.0
"""After this every stream is open again: the pump's patience is 2 s, then 4."""

RECORDER_SETTLES_S: Final = 3.0
"""After this pw-record has come or gone, and the microphone's ring is at its depth."""

_PROGRAMS: Final = ("pw-play", "pw-record")

_PLAYED_S: Final = 60
_AWAY_S: Final = (0.0, 2.0)
_LOOK_S: Final = (2.0, 2.5)
_RECORDED_S: Final = (10.0, 30.0)
_PAUSE_S: Final = (4.0, 12.0)
_STEP_S: Final = 0.1
_END_S: Final = 2.0
_QUIET_S: Final = 0.5


def require_programs() -> None:
    """Raise PipeWireUnavailable when one is not installed."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise PipeWireUnavailable(
            f"the soak needs {' and '.join(missing)}; install them, on Debian and Ubuntu with: "
            "apt-get install pipewire-bin"
        )


class Desktop(Part):
    """Plays a ramp for as long as it runs, records now and then, and restarts the daemon.

    Attributes:
        restarts: how many there were.
        recording: which of the microphones is recorded, from 1; 0 for none.
        recorded_mics: how many have been since the daemon started. One that was once recorded
            keeps the buffers it converts in, some megabytes: the recorder begins with a short
            look at each, and with all of them recorded memory can be compared.
    """

    def __init__(
        self,
        graph: PrivateGraph,
        mics: Sequence[str],
        directory: Path,
        chance: random.Random,
        restart_every_s: float,
    ) -> None:
        super().__init__("soak-desktop")
        self.restarts = 0
        self.recording = 0
        self.recorded_mics = 0
        self._graph = graph
        self._mics = mics
        self._ramp = directory / "ramp.wav"
        self._recorded = directory / "recorded.wav"
        self._chance = chance
        self._restart_every_s = restart_every_s
        self._player: subprocess.Popen[bytes] | None = None
        self._recorder: subprocess.Popen[bytes] | None = None
        self._restarting = False
        self._restarted_at = self._recorder_changed_at = -math.inf

    @property
    def restarting(self) -> bool:
        """Whether the daemon restarts, or has a moment ago."""
        return self._restarting or time.monotonic() - self._restarted_at < RESTART_SETTLES_S

    @property
    def recorder_changed(self) -> bool:
        """Whether the recorder has come or gone a moment ago."""
        return time.monotonic() - self._recorder_changed_at < RECORDER_SETTLES_S

    def work(self) -> None:
        """Look what is due, ten times a second."""
        write_ramp(self._ramp, _PLAYED_S)
        recorder_due = time.monotonic()
        restart_due = recorder_due + self._restart_every_s
        try:
            while not self.stopping.wait(_STEP_S):
                now = time.monotonic()
                if self._player is None or self._player.poll() is not None:
                    self._player = self._run("pw-play", str(self._ramp))
                if now >= recorder_due:
                    recorder_due = now + self._change_recorder()
                if now >= restart_due:
                    restart_due += self._restart_every_s
                    self._restart()
        finally:
            self._end_programs()
            # libpipewire 0.3.65 leaks the descriptors of a message that crosses the closing of its
            # stream, as when the recorder leaves just then.
            time.sleep(_QUIET_S)

    def _change_recorder(self) -> float:
        """Have the recorder come or go; return for how many seconds."""
        self._recorder_changed_at = time.monotonic()
        looking = self.recorded_mics < len(self._mics)
        if self._recorder is None:
            chosen = self.recorded_mics if looking else self._chance.randrange(len(self._mics))
            command = ("pw-record", "--target", self._mics[chosen], str(self._recorded))
            self._recorder = self._run(*command)
            self.recording = chosen + 1
            return self._chance.uniform(*(_LOOK_S if looking else _RECORDED_S))
        _end(self._recorder)
        self._recorder = None
        self.recording = 0
        self.recorded_mics += looking
        return 0.0 if looking else self._chance.uniform(*_PAUSE_S)

    def _restart(self) -> None:
        self._restarting = True
        self.restarts += 1
        self._graph.kill()
        self.stopping.wait(self._chance.uniform(*_AWAY_S))
        self._graph.restart()
        self._end_programs()
        self.recorded_mics = 0
        self._restarted_at = time.monotonic()
        self._restarting = False

    def _end_programs(self) -> None:
        if self._player is not None:
            _end(self._player)
            self._player = None
        if self._recorder is not None:
            self._change_recorder()

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self._graph.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(_END_S)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
