"""A headless PipeWire of one's own, for tests, demos and CI.

    with PrivateGraph() as graph:
        subprocess.Popen(["pw-play", "tone.wav"], env=graph.env)
        with stagebox.open_audio_capture(remote=graph.remote) as capture:
            ...

Needs the programs of the packages pipewire, wireplumber and dbus, and no privileges, sound card
or session. Everything lives in a temporary directory and ends with the block, with the
interpreter, and (through a watchdog process) even with a kill -9 of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from . import arguments
from .errors import PipeWireUnavailable, StageboxError
from .layout import POSITIONS, SAMPLE_RATE
from .unshared import Unshared

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_PROGRAMS: Final = {
    "dbus-daemon": "dbus",
    "pipewire": "pipewire",
    "wireplumber": "wireplumber",
    "pw-cli": "pipewire-bin",
    "pw-dump": "pipewire-bin",
    "pw-metadata": "pipewire-bin",
}
"""Program -> the Debian package that has it."""

_PRIORITIES: Final = {"Audio/Sink": 1000, "Audio/Source": 2000}
"""`priority.session` by media class, about what the session manager gives to hardware: a source
ranks above a sink's monitor, which may serve as one."""

_RATES_HZ: Final = range(8_000, 192_001)

_READY_TIMEOUT: Final = 20.0
"""Seconds a part of the graph may take to appear; a fraction of one is usual."""

_FOREIGN: Final = ("PIPEWIRE_", "WIREPLUMBER_", "PULSE_", "SPA_")
"""Variables that would lead a program of the graph to another daemon or configuration."""

_NOT_NAMES: Final = ("true", "false", "null")

# Waits for the end of its input, which comes with a word when all is well and without one when
# the interpreter was killed: then it ends the process group it shares with the daemons.
_WATCHDOG: Final = 'read -r word || { rm -rf -- "$1"; kill -KILL 0; }'


@dataclass(frozen=True, slots=True)
class _Node:
    """What to make with pw-cli."""

    name: str
    media_class: str
    factory: str
    channels: int

    def __post_init__(self) -> None:
        arguments.channel_count(self.channels, POSITIONS)
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a str, not {type(self.name).__name__}")
        # pw-dump prints a name like 5.1 as a number, and then nobody finds it again.
        if not re.fullmatch(r"[A-Za-z][\w.:-]*", self.name) or self.name in _NOT_NAMES:
            raise ValueError(
                f"name must begin with a letter and hold letters, digits, . : _ -: {self.name!r}"
            )
        arguments.text("name", self.name)

    def properties(self) -> str:
        position = " ".join(POSITIONS[self.channels])
        return (
            f"{{ factory.name={self.factory} node.name={json.dumps(self.name)} "
            f"node.description={json.dumps(self.name)} media.class={self.media_class} "
            f"object.linger=true audio.position=[{position}] monitor.channel-volumes=false "
            f"priority.session={_PRIORITIES[self.media_class]} }}"
        )


class PrivateGraph(Unshared):
    """A bus, a PipeWire daemon, a session manager and a null sink called "stagebox-sink".

    One thread at a time. `start` and `stop` do what entering and leaving the block do.

    Args:
        channels: of the null sink: 1, 2, 6 or 8.
        rate_hz: the graph's rate (default.clock.rate), 8000 to 192000.

    Attributes:
        env: the environment for programs that should use this graph: this process's, with
            PIPEWIRE_RUNTIME_DIR, XDG_RUNTIME_DIR, PIPEWIRE_REMOTE and
            DBUS_SESSION_BUS_ADDRESS pointing into it.
        remote: the daemon's socket path, for `remote=`.
        sink: the null sink's `node.name`.
        processes: the bus, the daemon and the session manager, in this order.

    Raises:
        PipeWireUnavailable: a program is missing (the message says which package has it), or
            the graph did not come up.
    """

    sink: Final = "stagebox-sink"

    def __init__(self, channels: int = 2, *, rate_hz: int = SAMPLE_RATE) -> None:
        self._rate_hz = arguments.whole("rate_hz", rate_hz)
        if self._rate_hz not in _RATES_HZ:
            raise ValueError(
                f"rate_hz must be {_RATES_HZ[0]} to {_RATES_HZ[-1]}, not {self._rate_hz}"
            )
        self._nodes = [_Node(self.sink, "Audio/Sink", "support.null-audio-sink", channels)]
        self._directory: Path | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._group = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.env: dict[str, str] = {}

    @property
    def directory(self) -> Path:
        """The temporary directory: sockets, configuration and the daemons' logs."""
        if self._directory is None:
            raise _not_running()
        return self._directory

    @property
    def remote(self) -> str:
        """The daemon's socket path, for `remote=`."""
        return str(self.directory / "pipewire-0")

    # --- life ---

    def start(self) -> None:
        """Bring everything up; return when the sink is the default."""
        if self._directory is not None:
            raise StageboxError("the private graph is running already")
        self._require_programs()
        self._directory = Path(tempfile.mkdtemp(prefix="stagebox-graph-"))
        try:
            self._prepare()
            self._watchdog = self._spawn_watchdog()
            self._group = self._watchdog.pid
            self._start_bus()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process and remove the directory. Twice is fine."""
        self._end_processes()
        if self._watchdog is not None:
            self._watchdog.communicate(b"done\n")
            self._watchdog = None
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None
        self.env = {}

    def kill(self) -> None:
        """Kill -9 the PipeWire daemon and the session manager, as a crash would."""
        self._end_processes(keep=1, kill=signal.SIGKILL)

    def restart(self) -> None:
        """Bring the daemon, the session manager and every node made so far up again."""
        self._end_processes(keep=1)
        self._start_daemons()

    def restart_manager(self) -> None:
        """Kill -9 the session manager and start another, and the nodes made so far with it.

        On a desktop the sound cards' nodes are the session manager's, and go and come with it.
        """
        self._end_processes(keep=2, kill=signal.SIGKILL)
        for node in self._nodes:
            self._destroy(node.name)
        self._start_manager()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- nodes ---

    def add_sink(self, name: str, channels: int = 2) -> None:
        """Add a null sink, and return when the session manager can route to it."""
        self._add(_Node(name, "Audio/Sink", "support.null-audio-sink", channels))

    def add_source(self, name: str, channels: int = 2) -> None:
        """Add a source that plays a steady tone, so that recording it cannot go unnoticed."""
        self._add(_Node(name, "Audio/Source", "audiotestsrc", channels))

    def remove(self, name: str) -> None:
        """Unplug a node of that `node.name`, and return when it is gone."""
        arguments.text("name", name)
        self._destroy(name)
        self._nodes = [node for node in self._nodes if node.name != name]
        self._wait(f"end of {name!r}", lambda: name not in self.node_names(), self.processes[-1])

    def configure_default(self, kind: str, name: str) -> None:
        """Make a node the user's configured default "sink" or "source"."""
        _check_kind(kind)
        arguments.text("name", name)
        key, value = f"default.configured.audio.{kind}", json.dumps({"name": name})
        self._run("pw-metadata", "0", key, value, "Spa:String:JSON")

    def dump(self) -> list[dict[str, Any]]:
        """Return every object in the graph, as `pw-dump` prints it."""
        try:
            # Any client may name its node, or set a default, in bytes and shapes of its own.
            printed = self._output("pw-dump").decode(errors="replace")
            objects: list[dict[str, Any]] = json.loads(printed or "[]")
        except json.JSONDecodeError:  # the graph changed while it was printed
            return []
        return objects

    def node_names(self) -> list[str]:
        """Return the `node.name` of every node in the graph."""
        return [
            properties["node.name"]
            for properties in map(_properties, self.dump())
            if "node.name" in properties and "media.class" in properties
        ]

    def properties(self, name: str) -> dict[str, Any]:
        """Return the properties of the node with that `node.name`, KeyError without one."""
        arguments.text("name", name)
        for entry in self.dump():
            if _properties(entry).get("node.name") == name:
                return _properties(entry)
        raise KeyError(name)

    def default(self, kind: str) -> str | None:
        """Return the `node.name` of the default "sink" or "source", None when there is none."""
        _check_kind(kind)
        for entry in self.dump():
            for item in entry.get("metadata", []):
                value = item.get("value")
                if item.get("key") == f"default.audio.{kind}" and isinstance(value, dict):
                    name: str | None = value.get("name")
                    return name
        return None

    # --- the parts ---

    @staticmethod
    def _require_programs() -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            packages = " ".join(sorted({_PROGRAMS[program] for program in missing}))
            raise PipeWireUnavailable(
                f"a private graph needs {', '.join(missing)}; install them, on Debian and Ubuntu "
                f"with: apt-get install {packages}"
            )

    def _prepare(self) -> None:
        directory = self.directory
        address = f"unix:path={directory / 'bus'}"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)},
            "XDG_RUNTIME_DIR": str(directory),
            "PIPEWIRE_RUNTIME_DIR": str(directory),
            "PIPEWIRE_REMOTE": "pipewire-0",
            "DBUS_SESSION_BUS_ADDRESS": address,
            # the user's own settings and remembered volumes stay out, and stay as they are
            **{
                f"XDG_{kind}_HOME": str(directory / kind.lower())
                for kind in ("CONFIG", "STATE", "DATA", "CACHE")
            },
        }
        for name, text in self._configuration().items():
            path = directory / "config" / name
            path.parent.mkdir(parents=True)
            path.write_text(text)

    def _configuration(self) -> dict[str, str]:
        """Return the configuration files that differ from the system's, by name."""
        return {
            "pipewire/pipewire.conf.d/stagebox.conf": (
                f"context.properties = {{ default.clock.rate = {self._rate_hz} }}\n"
                "context.spa-libs = { audiotestsrc = audiotestsrc/libspa-audiotestsrc }\n"
            ),
            # No hardware: this machine's sound cards are somebody else's. WirePlumber 0.4 reads
            # Lua, 0.5 the .conf, and each ignores the other's.
            "wireplumber/main.lua.d/51-stagebox.lua": (
                _lua_off("alsa_monitor", "v4l2_monitor", "libcamera_monitor")
            ),
            "wireplumber/bluetooth.lua.d/51-stagebox.lua": (
                _lua_off("bluez_monitor", "bluez_midi_monitor")
            ),
            "wireplumber/wireplumber.conf.d/51-stagebox.conf": (
                "wireplumber.profiles = { main = {\n"
                "  hardware.audio = disabled\n"
                "  hardware.bluetooth = disabled\n"
                "  hardware.video-capture = disabled\n"
                "} }\n"
            ),
        }

    def _spawn_watchdog(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-c", _WATCHDOG, "stagebox-watchdog", str(self.directory)],
            stdin=subprocess.PIPE,
            process_group=0,
        )

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        log = self.directory / f"{command[0]}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # the watchdog's group: out of the terminal's Ctrl-C, within its reach
                process_group=self._group,
            )
        self.processes.append(process)
        return process

    def _start_bus(self) -> None:
        address = self.env["DBUS_SESSION_BUS_ADDRESS"]
        bus = self._spawn("dbus-daemon", "--session", "--nofork", f"--address={address}")
        self._wait("the bus", (self.directory / "bus").exists, bus)

    def _start_daemons(self) -> None:
        daemon = self._spawn("pipewire")
        self._wait("the daemon's socket", lambda: bool(self.dump()), daemon)
        self._start_manager()

    def _start_manager(self) -> None:
        manager = self._spawn("wireplumber")
        for node in self._nodes:
            self._make(node)
        if any(node.media_class == "Audio/Sink" for node in self._nodes):
            self._wait("a default sink", lambda: self.default("sink") is not None, manager)

    def _add(self, node: _Node) -> None:
        self._make(node)
        self._nodes.append(node)

    def _make(self, node: _Node) -> None:
        self._run("pw-cli", "create-node", "adapter", node.properties())
        self._wait(f"node {node.name!r}", lambda: self._has_ports(node.name), self.processes[-1])

    def _destroy(self, name: str) -> None:
        for entry in self.dump():
            if _properties(entry).get("node.name") == name:
                self._run("pw-cli", "destroy", str(entry["id"]))

    def _run(self, *command: str) -> None:
        self._output(*command, check=True)

    def _output(self, *command: str, check: bool = False) -> bytes:
        if not self.env:
            raise _not_running()
        try:
            done = subprocess.run(
                command, env=self.env, capture_output=True, timeout=_READY_TIMEOUT, check=check
            )
        except subprocess.SubprocessError as error:
            raise PipeWireUnavailable(f"the private graph does not answer: {error}") from error
        return done.stdout

    def _has_ports(self, name: str) -> bool:
        """Whether the session manager has given the node its ports."""
        for entry in self.dump():
            if _properties(entry).get("node.name") == name:
                info = entry["info"]
                return bool(info["n-input-ports"] or info["n-output-ports"])
        return False

    def _wait(self, what: str, ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                logs = "\n".join(
                    f"{log.name}: {log.read_text(errors='replace')[-500:]}"
                    for log in sorted(self.directory.glob("*.log"))
                )
                raise PipeWireUnavailable(
                    f"the private graph did not come up: no {what[:60]}\n{logs}"
                )
            time.sleep(0.02)

    def _end_processes(self, keep: int = 0, kill: signal.Signals = signal.SIGTERM) -> None:
        """End all but the first `keep` processes, the last started first."""
        while len(self.processes) > keep:
            process = self.processes.pop()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(kill)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _not_running() -> StageboxError:
    return StageboxError("the private graph is not running: use it as a context manager")


def _check_kind(kind: str) -> None:
    if kind not in {"sink", "source"}:
        raise ValueError(f'kind must be "sink" or "source", not {kind!r}')


def _lua_off(*monitors: str) -> str:
    return "".join(f"if {name} then {name}.enabled = false end\n" for name in monitors)


def _properties(entry: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = (entry.get("info") or {}).get("props") or {}
    return properties
