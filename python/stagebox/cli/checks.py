"""What `stagebox doctor` looks at, each as it is found, with the command that mends it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import resource
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from stagebox import (
    CodecError,
    DaemonAbsent,
    PipeWireUnavailable,
    StageboxError,
    claims,
    open_audio_capture,
    opus,
)
from stagebox.graph import Graph, libpipewire_version, socket_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stagebox import CaptureStats
    from stagebox.claims import Holder
    from stagebox.graph import Daemon, Snapshot

Status = Literal["ok", "warning", "wrong", "unknown"]
"""A warning is unusual or could be better; what is unknown cannot be found out here and now."""

_USUAL_QUANTA: Final = range(64, 4097)
_USUAL_RATES_HZ: Final = (44_100, 48_000, 88_200, 96_000)

_CYCLES_WITHIN_S: Final = 3.0
_REALTIME_WITHIN_S: Final = 1.0
"""rtkit is asked while the thread runs already."""

_QUANTUM_FRAMES: Final = 1024
_POLICIES: Final = {os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
_RTKIT: Final = "/usr/share/dbus-1/system-services/org.freedesktop.RealtimeKit1.service"

_MAKE_SINK: Final = (
    "pw-cli create-node adapter '{ factory.name=support.null-audio-sink node.name=null-sink "
    "media.class=Audio/Sink object.linger=true audio.position=[FL FR] }'"
)

_PACKAGES: Final = {
    "apt-get": ("sudo apt-get install", 0),
    "dnf": ("sudo dnf install", 1),
    "pacman": ("sudo pacman -S", 2),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check.

    Attributes:
        check: its name; it stays the same from version to version.
        status: how it is.
        found: in words.
        fix: the command that mends it; "" where nothing is to be mended, or none is known.
    """

    check: str
    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A capture that was opened to see what becomes of it.

    Attributes:
        stats: what it told last.
        scheduling: the real-time policy that one of this process's threads has, and its priority;
            None where none has. Of libpipewire's threads only the data thread ever has one; not
            every version gives it a name to know it by.
    """

    stats: CaptureStats
    scheduling: tuple[int, int] | None


def findings(remote: str | None) -> Iterator[Finding]:
    """Yield what is found, as it is found. Takes some seconds where sound does not flow."""
    yield package()
    yield libopus()
    yield (library := libpipewire())
    yield (place := socket(remote))
    if library.status != "ok" or place.status != "ok":
        missing = "libpipewire" if library.status != "ok" else "socket to connect to"
        yield from _not_checked(f"there is no {missing}")
        return
    try:
        graph = Graph(remote=remote)
    except PipeWireUnavailable as error:
        yield no_daemon(error, remote)
        yield from _not_checked("no daemon answers", skip=1)
        return
    with graph:
        daemon, snapshot = graph.daemon(), graph.snapshot()
        yield Finding("daemon", "ok", f"PipeWire {daemon.version} answers")
        yield session_manager(daemon)
        yield default_sink(daemon, snapshot)
        yield default_source(daemon, snapshot)
        yield claimed(remote)
        yield settings(daemon)
        yield from _in_use(remote, snapshot, flows=snapshot.default_sink is not None)


_ON_A_DAEMON: Final = (
    "daemon",
    "session-manager",
    "default-sink",
    "default-source",
    "claims",
    "settings",
    "driver",
    "real-time",
)


def _not_checked(why: str, skip: int = 0) -> Iterator[Finding]:
    for check in _ON_A_DAEMON[skip:]:
        yield Finding(check, "unknown", why)


# --- what is installed ----------------------------------------------------------------------


def package() -> Finding:
    """Say which versions these are."""
    version = importlib.metadata.version("stagebox")
    return Finding("package", "ok", f"stagebox {version}, Python {platform.python_version()}")


def libopus() -> Finding:
    """Look for the codec."""
    try:
        return Finding("libopus", "ok", opus.libopus_version())
    except CodecError as error:
        return Finding("libopus", "wrong", str(error), _install("libopus0", "opus", "opus"))


def libpipewire() -> Finding:
    """Look for the library."""
    try:
        return Finding("libpipewire", "ok", f"libpipewire {libpipewire_version()}")
    except PipeWireUnavailable as error:
        fix = _install("libpipewire-0.3-0", "pipewire-libs", "libpipewire")
        return Finding("libpipewire", "wrong", str(error), fix)


def _install(debian: str, fedora: str, arch: str) -> str:
    for manager, (command, column) in _PACKAGES.items():
        if shutil.which(manager):
            return f"{command} {(debian, fedora, arch)[column]}"
    return ""


# --- the daemon and its session manager -----------------------------------------------------


def socket(remote: str | None) -> Finding:
    """Look for the daemon's socket."""
    paths = socket_paths(remote)
    here = [path for path in paths if os.access(path, os.R_OK | os.W_OK)]
    if here:
        return Finding("socket", "ok", here[0])
    barred = [path for path in paths if os.access(path, os.F_OK)]
    if barred:
        found = f"{barred[0]} is another user's: run this as the user of the desktop session"
        return Finding("socket", "wrong", found)
    return Finding("socket", "wrong", f"none at {' or '.join(paths)}", _start_daemon(remote))


def no_daemon(error: PipeWireUnavailable, remote: str | None) -> Finding:
    """Say that none answers."""
    if isinstance(error, DaemonAbsent):
        return Finding("daemon", "wrong", "none listens at the socket", _start_daemon(remote))
    fix = "systemctl --user restart pipewire wireplumber" if _has_systemd() else ""
    return Finding("daemon", "wrong", str(error), fix)


def session_manager(daemon: Daemon) -> Finding:
    """Look for what links streams to sinks: the owner of the metadata with the defaults."""
    if daemon.session_manager is not None:
        return Finding("session-manager", "ok", daemon.session_manager or "there is one")
    found = "none (no metadata object “default”): nothing will be linked to a sink"
    return Finding("session-manager", "wrong", found, _start_manager())


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _start_daemon(remote: str | None) -> str:
    directories = ("PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR")
    if not (remote or "").startswith("/") and not any(map(os.environ.get, directories)):
        return f"export XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
    if not shutil.which("pipewire"):
        return _install(*["pipewire wireplumber"] * 3)
    return "systemctl --user start pipewire wireplumber" if _has_systemd() else "pipewire &"


def _start_manager() -> str:
    if not shutil.which("wireplumber"):
        return _install(*["wireplumber"] * 3)
    return "systemctl --user start wireplumber" if _has_systemd() else "wireplumber &"


# --- devices --------------------------------------------------------------------------------


def default_sink(daemon: Daemon, snapshot: Snapshot) -> Finding:
    """Look for what a capture captures."""
    check = "default-sink"
    if (sink := snapshot.default_sink) is not None:
        return Finding(check, "ok", f"{sink.name}, {sink.channels} channels")
    if not snapshot.sinks:
        return Finding(check, "wrong", "there is no sink: nothing can play", _MAKE_SINK)
    if daemon.session_manager is None:
        return Finding(check, "unknown", "the session manager chooses it")
    fix = f"wpctl set-default {snapshot.sinks[0].id}"
    return Finding(check, "wrong", "no sink is the default", fix)


def default_source(daemon: Daemon, snapshot: Snapshot) -> Finding:
    """Look for what applications record; `stagebox mic` makes one where there is none."""
    check = "default-source"
    if (source := snapshot.default_source) is not None:
        return Finding(check, "ok", f"{source.name}, {source.channels} channels")
    if daemon.session_manager is None:
        return Finding(check, "unknown", "the session manager chooses it")
    found = "none: applications have a microphone while stagebox has one open"
    return Finding(check, "warning", found, "stagebox mic --loop FILE")


def claimed(remote: str | None) -> Finding:
    """Look into the ledger of defaults that are ours for now."""
    try:
        return held(claims.holders(remote), remote)
    except OSError as error:
        return Finding("claims", "wrong", f"{error.filename}: {error.strerror}")


def held(holders: Sequence[Holder], remote: str | None) -> Finding:
    """Look for a default that a program has left when it was killed."""
    left = [f"{holder.kind} ({holder.name})" for holder in holders if not holder.here]
    if left:
        found = f"a killed program has left the default {' and '.join(left)}"
        where = f" --remote {shlex.quote(remote)}" if remote else ""
        return Finding("claims", "wrong", found, f"stagebox restore{where}")
    here = [f"the default {holder.kind} is {holder.name} while that is open" for holder in holders]
    return Finding("claims", "ok", "; ".join(here) or "no default is changed by us")


# --- the graph's time -----------------------------------------------------------------------


def settings(daemon: Daemon) -> Finding:
    """Look at the rate and the quantum, and whether somebody has forced them."""
    rate_hz, quantum = daemon.forced_rate_hz, daemon.forced_quantum_frames
    forced = [f"rate forced to {rate_hz} Hz"] * bool(rate_hz)
    forced += [f"quantum forced to {quantum} frames"] * bool(quantum)
    found = (
        f"{daemon.rate_hz} Hz, {daemon.quantum_frames} frames a cycle "
        f"({daemon.min_quantum_frames} to {daemon.max_quantum_frames}), "
        f"{' and '.join(forced) or 'nothing forced'}"
    )
    unusual = []
    if quantum and quantum not in _USUAL_QUANTA:
        unusual.append("clock.force-quantum")
    if rate_hz and rate_hz not in _USUAL_RATES_HZ:
        unusual.append("clock.force-rate")
    if not unusual:
        return Finding("settings", "ok", found)
    fix = "; ".join(f"pw-metadata -n settings 0 {key} 0" for key in unusual)
    return Finding("settings", "warning", found, fix)


def _in_use(remote: str | None, snapshot: Snapshot, *, flows: bool) -> Iterator[Finding]:
    try:
        trial = tried(remote, flows=flows)
    except StageboxError as error:
        yield Finding("driver", "wrong", str(error))
        yield Finding("real-time", "unknown", "no stream could be opened")
        return
    yield driver(trial, snapshot, flows=flows)
    yield real_time(trial)


def tried(remote: str | None, *, flows: bool) -> Trial:
    """Capture for a moment: until the graph has called us, where sound can flow."""
    with open_audio_capture(quantum_frames=_QUANTUM_FRAMES, remote=remote) as capture:
        deadline = time.monotonic() + _CYCLES_WITHIN_S
        while flows and not capture.stats.quanta and time.monotonic() < deadline:
            capture.next_chunk(0.1)
        deadline = time.monotonic() + _REALTIME_WITHIN_S
        while (scheduling := _real_time_thread()) is None and time.monotonic() < deadline:
            capture.next_chunk(0.05)
        return Trial(capture.stats, scheduling)


def _real_time_thread() -> tuple[int, int] | None:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            thread = int(task.name)
            policy = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK
            if policy in _POLICIES:
                return policy, os.sched_getparam(thread).sched_priority
    return None


def driver(trial: Trial, snapshot: Snapshot, *, flows: bool) -> Finding:
    """Say whose clock calls a capture, or that none does."""
    if not flows:
        return Finding("driver", "unknown", "there is no default sink to capture")
    if not trial.stats.quanta:
        found = f"a capture was not called within {_CYCLES_WITHIN_S:g} s: nothing drives its sink"
        fix = "systemctl --user restart pipewire wireplumber" if _has_systemd() else ""
        return Finding("driver", "wrong", found, fix)
    number = trial.stats.driver_id
    devices = {device.id: device.name for device in (*snapshot.sinks, *snapshot.sources)}
    name = devices.get(-1 if number is None else number, f"node {number}")
    return Finding("driver", "ok", f"{name} drives, at {trial.stats.graph_rate_hz} Hz")


def real_time(trial: Trial) -> Finding:
    """Say how the kernel schedules the thread in which sound is copied."""
    if trial.scheduling is not None:
        policy, priority = trial.scheduling
        found = f"the data thread has {_POLICIES[policy]}, priority {priority}"
        return Finding("real-time", "ok", found)
    limit, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    found = (
        f"the data thread has no real-time priority (RLIMIT_RTPRIO is {limit}, and rtkit gave "
        "none): a busy machine will cost sound"
    )
    return Finding("real-time", "warning", found, _allow_real_time())


def _allow_real_time() -> str:
    if not Path(_RTKIT).exists():
        return _install("rtkit", "rtkit", "rtkit")
    line = f"{getpass.getuser()} - rtprio 95"
    return f"echo '{line}' | sudo tee /etc/security/limits.d/95-rtprio.conf  # then log in anew"
