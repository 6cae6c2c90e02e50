"""Run the graph tests against every generation of PipeWire: what `make matrix` does.

    scripts/matrix.py                           everything
    scripts/matrix.py host trixie               these runs alone
    scripts/matrix.py sid-inside -- -k restart  some of the tests; the document stays as it is

Debian's suites are installed once, each into a directory of its own (a root). A run is a row of the
table in docs/compatibility.md:

    host           this system's daemons, and the package as it is built here
    SUITE-daemons  the root's daemons and applications (pw-play, pw-record, ...), and the package as
                   it is built here: a program in a container, on a desktop's socket
    SUITE-inside   everything is the root's: Python, libpipewire, daemons, the package's build

Remove a root's directory to have it made anew, from what the suite has by then.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as XmlTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHECKOUT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = CHECKOUT / "docs" / "compatibility.md"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stagebox"
ROOTS: Final = CACHE / "roots"

SUITES: Final = ("trixie", "sid")
RUNS: Final = ("host", *(f"{suite}-{kind}" for suite in SUITES for kind in ("daemons", "inside")))

REPEATS: Final = 2
"""How often what failed is tried again. These tests listen to sound in real time: on a machine
that is busy with something else, some of it is lost before it reaches us."""

INSIDE: Final = Path("/srv/stagebox")
"""The copy of the checkout, as seen in a root."""

BEGIN: Final = "<!-- table: written by make matrix -->"
END: Final = "<!-- table: end -->"
COLUMNS: Final = (
    *("daemon", "session manager", "client's libpipewire", "Python"),
    *("passed", "of these, repeated", "failed", "skipped", "date", "run"),
)

LOCAL_AUTHORITIES: Final = Path("usr/local/share/ca-certificates")
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"

_PIP_SETTINGS: Final = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host"),
    *("proxy", "timeout", "default-timeout", "retries"),
)
"""Of the user's configuration of pip, what says where packages come from."""

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")


PROGRAMS: Final = (
    *("pipewire", "wireplumber", "pw-cli", "pw-dump", "pw-metadata", "pw-play", "pw-record"),
)
"""What the tests start by these names. pw-dump must be the daemon's own: an old one prints what it
does not know of a newer daemon as broken JSON."""

NAMESPACE: Final = ("/usr/bin/unshare", "--mount", "--propagation", "private")
"""Begins a command line whose mounts are its own."""


class MatrixError(Exception):
    """An expected failure, in a sentence."""


@dataclass(frozen=True, slots=True)
class Report:
    """What pytest found."""

    total: int
    skipped: int
    failures: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found."""

    run: str
    versions: Mapping[str, str]
    first: Report
    failures: Sequence[str]
    """What failed every time; the other failures of the first time passed when repeated."""

    @property
    def repeated(self) -> list[str]:
        """What passed, but not at once."""
        return [name for name in self.first.failures if name not in self.failures]

    def row(self) -> str:
        """The line of the table."""
        of = self.versions
        failed = len(self.failures)
        return _line(
            f"PipeWire {of['daemon']}",
            f"WirePlumber {of['manager']}",
            of["client"],
            of["python"],
            self.first.total - self.first.skipped - failed,
            len(self.repeated),
            failed,
            self.first.skipped,
            date.today().isoformat(),
            f"`{self.run}`",
        )


# --- roots -----------------------------------------------------------------------------------


def entering(root: Path, *shared: Path) -> list[str]:
    """Begin a command line that runs in a root, which sees these directories of ours as well.

    The mounts are in a namespace of the program's own and end with it, whatever ends it. Every
    step is an exec: the process that is started is the program itself, and gets its signals.
    """
    inside = shlex.quote(str(root))
    mounts = [f"mount -t proc proc {inside}/proc", f"mount --rbind /dev {inside}/dev"]
    for directory in shared:
        (root / directory.relative_to("/")).mkdir(parents=True, exist_ok=True)
        quoted = shlex.quote(str(directory))
        mounts.append(f"mount --bind {quoted} {inside}{quoted}")
    # a program in a test's own environment may have a PATH without these
    path = "PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin"
    script = " && ".join([path, *mounts, f'exec chroot {inside} "$@"'])
    return [*NAMESPACE, "/bin/sh", "-c", script, "sh"]


def quietly(what: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    """Run a command that must succeed; what it says goes into the log."""
    say(what)
    with log.open("ab") as output:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        end = log.read_text(errors="replace").splitlines()[-8:]
        raise MatrixError("\n".join([f"{what} failed; the end of {log}:", *end]))


def make_root(suite: str, root: Path) -> None:
    """Install the smallest system of a suite; it has its name only when it is complete."""
    if shutil.which("debootstrap") is None:
        raise MatrixError("debootstrap is missing; install it: apt-get install debootstrap")
    partial = root.with_name(f"{suite}.partial")
    remove_partial(partial)
    quietly(
        f"{suite}: making its root in {root} (about two minutes; fails while the suite is broken)",
        # it mounts /proc in there itself: in a namespace, where that ends with it
        [*NAMESPACE, "debootstrap", "--variant=minbase", suite, str(partial)],
        {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        log_of(suite),
    )
    # nothing that is installed in there may start a service
    policy = partial / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    partial.rename(root)


def remove_partial(partial: Path) -> None:
    """Remove what an interrupted run left, unless something of this system is mounted in it."""
    if any(f" {partial}/" in line for line in Path("/proc/self/mounts").read_text().splitlines()):
        raise MatrixError(f"something is mounted in {partial}: unmount it first")
    if partial.exists():
        shutil.rmtree(partial)


def prepare_root(suite: str, target: str) -> Path:
    """Make or complete a root, and `make` a target in it from the checkout as it is now."""
    root = ROOTS / suite
    if os.geteuid() != 0:
        raise MatrixError("entering a root needs privileges: run it as root")
    if not root.exists():
        make_root(suite, root)
    copy_network_settings(root)
    copy_checkout(root / INSIDE.relative_to("/"))
    env, shared = root_environment()

    def inside(what: str, command: str) -> None:
        shell = ["/bin/sh", "-ec", f"cd {INSIDE}; {command}"]
        quietly(f"{suite}: {what}", [*entering(root, *shared), *shell], env, log_of(suite))

    if not all(
        (root / path).exists() for path in ("usr/bin/make", "usr/sbin/update-ca-certificates")
    ):
        inside(
            "installing make and certificates",
            "apt-get update -qq; "
            "apt-get install -qq -y --no-install-recommends make ca-certificates",
        )
    if copy_authorities(root):
        inside("trusting this system's own authorities", "update-ca-certificates")
    inside(f"make {target}", f"make {target}")
    return root


def copy_network_settings(root: Path) -> None:
    """Let a root reach Debian's packages the way this system does."""
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)  # perhaps a link, which must not lead out of the root
    shutil.copyfile("/etc/resolv.conf", resolver)
    if shutil.which("apt-config"):
        dump = ["apt-config", "dump", "Acquire"]
        done = subprocess.run(dump, capture_output=True, text=True, check=True)
        lines = re.findall(r"^Acquire::(?:https?|Check-|Retries).*\n", done.stdout, re.MULTILINE)
        (root / "etc/apt/apt.conf.d/90host").write_text("".join(lines))


def copy_authorities(root: Path) -> bool:
    """Copy the certificates this system's administrator added; whether any was new."""
    changed = False
    for path in (Path("/") / LOCAL_AUTHORITIES).glob("*.crt"):
        copy = root / LOCAL_AUTHORITIES / path.name
        changed |= copy_changed(path, copy)
    return changed


def copy_changed(path: Path, copy: Path) -> bool:
    """Copy a file unless it is there already: make goes by the time of the copy."""
    if copy.exists() and copy.read_bytes() == path.read_bytes():
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    shutil.copymode(path, copy)
    return True


def copy_checkout(copy: Path) -> None:
    """Bring the copy up to date with every file that git knows or would add; keep what it built."""
    # safe.directory: root may work in somebody else's checkout
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), "ls-files", "-z"]
    listed = subprocess.run(
        [*git, "--cached", "--others", "--exclude-standard"], capture_output=True, check=True
    )
    names = {Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name}
    wanted = {name for name in names if (CHECKOUT / name).is_file()}
    for name in wanted:
        copy_changed(CHECKOUT / name, copy / name)
    for top in {name.parts[0] for name in wanted}:
        for path in (copy / top).rglob("*"):
            if path.is_file() and path.relative_to(copy) not in wanted:
                path.unlink()


def root_environment() -> tuple[dict[str, str], list[Path]]:
    """The environment of programs in a root, and the directories of ours that it speaks of."""
    settings = pip_settings()
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CERT": CERTIFICATES,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **{f"PIP_{key.upper().replace('-', '_')}": value for key, value in settings.items()},
        **{name: value for name, value in os.environ.items() if name.lower() in _PROXIES},
    }
    return env, sorted(local_directories(settings))


def pip_settings() -> dict[str, str]:
    """Where pip gets packages from by this user's configuration and environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):  # the later one wins
        for key, value in re.findall(rf"^{section}\.(\S+)=(.*)$", done.stdout, re.MULTILINE):
            name = key.removeprefix(".")
            if name in _PIP_SETTINGS:
                found[name] = ast.literal_eval(value)
    return found


def local_directories(settings: Mapping[str, str]) -> set[Path]:
    """The directories that pip's settings name."""
    found = set()
    for key, value in settings.items():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.is_dir():
                # an index's pages link to packages beside it
                found.add(path.parent if "index" in key else path)
    return found


# --- runs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """How a run starts Python, in the directory that holds the tests."""

    python: Sequence[str]
    env: Mapping[str, str]
    directory: Path | None = CHECKOUT


@contextlib.contextmanager
def place_of(run: str, scratch: Path) -> Iterator[Place]:
    """Get everything ready for a run."""
    suite, _, kind = run.partition("-")
    if kind == "":
        yield Place([sys.executable], os.environ)
    elif kind == "daemons":
        root = prepare_root(suite, "system")
        path = f"{write_programs(root, scratch)}:{os.environ['PATH']}"
        yield Place([sys.executable], {**os.environ, "PATH": path})
    else:
        root = prepare_root(suite, ".venv/.built")
        env, shared = root_environment()
        enter = entering(root, *shared, Path(tempfile.gettempdir()))
        yield Place([*enter, "env", "-C", str(INSIDE), ".venv/bin/python"], env, None)


def write_programs(root: Path, scratch: Path) -> Path:
    """Make a directory of PipeWire's programs, which are the root's."""
    # where the private graphs, and their sockets, are
    enter = entering(root, Path(tempfile.gettempdir()))
    directory = scratch / "bin"
    directory.mkdir()
    for name in PROGRAMS:
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*enter, f"/usr/bin/{name}"])} "$@"\n')
        program.chmod(0o755)
    return directory


def find_versions(place: Place) -> dict[str, str]:
    """Ask what answers in a place."""
    done = subprocess.run(
        [*place.python, "scripts/versions.py"],
        env=place.env,
        cwd=place.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MatrixError(f"its daemons do not answer:\n{done.stderr[-1000:]}")
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def perform(run: str, arguments: Sequence[str]) -> Outcome:
    """Run the graph tests in a run's place; what fails, up to `REPEATS` times more."""
    with (
        tempfile.TemporaryDirectory(prefix="stagebox-matrix-") as scratch,
        place_of(run, Path(scratch)) as place,
    ):
        versions = find_versions(place)
        say(f"{run}: the graph tests, with {versions}")
        first = pytest(place, Path(scratch), arguments)
        failures = first.failures
        for _ in range(REPEATS):
            if failures:
                say(f"{run}: once more, {', '.join(failures)}")
                failures = pytest(place, Path(scratch), [*arguments, "--last-failed"]).failures
    return Outcome(run, versions, first, failures)


def pytest(place: Place, scratch: Path, arguments: Sequence[str]) -> Report:
    """Run pytest in a place, and read the report it writes."""
    report = scratch / "report.xml"
    command = ["-m", "pytest", "tests/graph", "-q", f"--junitxml={report}", *arguments]
    done = subprocess.run(
        [*place.python, *command], env=place.env, cwd=place.directory, check=False
    )
    if done.returncode not in {0, 1}:  # 1: some tests failed
        raise MatrixError(f"pytest ended with {done.returncode}")
    tests = list(XmlTree.parse(report).iter("testcase"))  # noqa: S314 - we had it written
    return Report(
        total=len(tests),
        skipped=sum(test.find("skipped") is not None for test in tests),
        failures=[
            f"{test.get('classname', '').rpartition('.')[2]}::{test.get('name')}"
            for test in tests
            if test.find("failure") is not None or test.find("error") is not None
        ],
    )


# --- the document ------------------------------------------------------------------------------


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def rows_in(text: str) -> dict[str, str]:
    """The rows of a table by run."""
    return {
        run: line for line in text.splitlines() for run in RUNS if line.endswith(f"| `{run}` |")
    }


def table(rows: Mapping[str, str]) -> str:
    """The table of these rows."""
    lines = [rows[run] for run in RUNS if run in rows]
    return "\n".join([_line(*COLUMNS), _line(*["---"] * len(COLUMNS)), *lines])


def record(found: Outcome) -> None:
    """Put a run's row in place of its old one."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {**rows_in(old), found.run: found.row()}
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


# --- the command -------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"matrix: {text}", flush=True)


def log_of(suite: str) -> Path:
    """Where the making of a root is written down."""
    return ROOTS / f"{suite}.log"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other runs of this out of the roots."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    with (ROOTS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MatrixError(f"another one is at work in {ROOTS}") from error
        yield


def chosen(names: Sequence[str]) -> list[str]:
    """The runs that were named, in full or by their suite."""
    known = {*RUNS, *SUITES}
    if unknown := sorted(set(names) - known):
        raise MatrixError(f"no such run: {', '.join(unknown)}; there are {', '.join(RUNS)}")
    return [run for run in RUNS if not names or run in names or run.partition("-")[0] in names]


def matrix(names: Sequence[str], arguments: Sequence[str]) -> bool:
    """Do the runs, whatever becomes of the one before; whether all went well."""
    found: dict[str, Outcome] = {}
    repeated: list[str] = []
    troubles: list[str] = []
    for run in chosen(names):
        try:
            found[run] = perform(run, arguments)
        except MatrixError as error:
            say(str(error))
            troubles.append(f"{run}: was not run: {str(error).splitlines()[0]}")
            continue
        repeated += [f"{run}: passed when repeated: {name}" for name in found[run].repeated]
        troubles += [f"{run}: failed: {name}" for name in found[run].failures]
        if not arguments:
            record(found[run])
    if found:
        print(f"\n{table({run: result.row() for run, result in found.items()})}")
    print("\n".join([*repeated, *troubles]))
    return not troubles


def main(words: Sequence[str]) -> int:
    """Do what the command line says."""
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="What follows -- is for pytest; then the document stays as it is.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{', '.join(RUNS)}, or a suite")
    names = parser.parse_args(words[:at]).runs
    try:
        with alone():
            return 0 if matrix(names, words[at + 1 :]) else 1
    except (MatrixError, OSError, subprocess.CalledProcessError) as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
