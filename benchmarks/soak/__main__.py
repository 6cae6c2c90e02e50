"""The soak's command line, and its one loop: a sample a second."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stagebox import PipeWireUnavailable, StageboxError
from stagebox.testing import PrivateGraph

from .desktop import Desktop, require_programs
from .host import Listener, Passthrough, Talker
from .sample import CaptureCounts, MicCounts, Process, PumpCounts, Sample, SampleFile, read_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .part import Part

_DESCRIPTION: Final = """\
Does a host's audio go on for hours? On a PipeWire of its own this runs a capture, two microphones
and a pump, while a player plays, a recorder comes and goes and the daemon is killed now and then.
Once a second it notes memory, descriptors, threads, lost frames and underruns. At the end it says
what held, and draws it. Ctrl-C ends it early."""

_EPILOG: Final = """\
example:
  python -m benchmarks.soak --minutes 30

Exit status: 0 when nothing failed, 1 when something did, 130 after Ctrl-C. A run in which memory
was watched for less than ten minutes says nothing about memory."""

_INTERRUPTED: Final = 130

_OPEN_S: Final = 10.0

# Of glibc's malloc.h. With one heap for all threads, and blocks of 128 KiB or more the kernel's
# again once they are freed, what each restart of the daemon frees and takes does not leave heaps
# 1 MiB larger or smaller, as it does when each new thread takes the heap that is free. (The size
# is the default, but malloc raises it as it goes unless it is set.)
_MALLOC: Final = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 128 * 1024)}

_MICS: Final = ("soak-mic-1", "soak-mic-2", "soak-pump")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    minutes: float
    restart_every: float
    output: Path
    seed: int


class Host:
    """The four streams and what goes on around them, as samples."""

    def __init__(self, graph: PrivateGraph, directory: Path, options: Options) -> None:
        chance = random.Random(options.seed)  # noqa: S311 - no secret
        self.desktop = Desktop(graph, _MICS, directory, chance, options.restart_every * 60)
        self._listener = Listener(graph.remote)
        self._passthrough = Passthrough(_MICS[2], graph.remote)
        talkers = (Talker(_MICS[0], graph.remote), Talker(_MICS[1], graph.remote))
        self._voices: tuple[Talker | Passthrough, ...] = (*talkers, self._passthrough)
        self._streams: tuple[Part, ...] = (self._listener, *self._voices)
        self._began = time.monotonic()
        self._capture = CaptureCounts()
        self._mics = [MicCounts()] * len(_MICS)
        self._pump = PumpCounts()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run for as long as the block lasts; the desktop is the last to start, the first to stop.

        Raises PipeWireUnavailable when the streams do not open.
        """
        with contextlib.ExitStack() as stack:
            for part in self._streams:
                part.start()
                stack.callback(part.stop)
            deadline = time.monotonic() + _OPEN_S
            while self._open_streams() < len(self._streams):
                self.raise_failure()
                if time.monotonic() > deadline:
                    raise PipeWireUnavailable(f"the streams did not open within {_OPEN_S:g} s")
                time.sleep(0.02)
            self.desktop.start()
            stack.callback(self.desktop.stop)
            self._began = time.monotonic()
            yield

    def raise_failure(self) -> None:
        """Raise what ended a part too early, if something did."""
        for part in (*self._streams, self.desktop):
            if part.error is not None:
                raise part.error

    def sample(self) -> Sample:
        """What happened since the last one."""
        mics = [voice.tally.counts() for voice in self._voices]
        grown = [now - before for now, before in zip(mics, self._mics, strict=True)]
        capture, pump = self._listener.counts(), self._passthrough.counts()
        late_ms = [voice.lateness.take_ms() for voice in self._voices]
        sample = Sample(
            elapsed_s=round(time.monotonic() - self._began),
            process=Process.now(),
            open_streams=self._open_streams(),
            restarting=int(self.desktop.restarting),
            recorder_changed=int(self.desktop.recorder_changed),
            recording=self.desktop.recording,
            recorded_mics=self.desktop.recorded_mics,
            capture=capture - self._capture,
            capture_late_ms=self._listener.lateness.take_ms(),
            mic1=grown[0],
            mic1_late_ms=late_ms[0],
            mic2=grown[1],
            mic2_late_ms=late_ms[1],
            pump=pump - self._pump,
            pump_mic=grown[2],
            pump_late_ms=late_ms[2],
        )
        self._capture, self._mics, self._pump = capture, mics, pump
        return sample

    def _open_streams(self) -> int:
        return self._listener.open + sum(voice.tally.open for voice in self._voices)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak and return its exit status."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for parameter, value in _MALLOC.values():
        ctypes.CDLL(None).mallopt(parameter, value)
    try:
        _require_packages()
        require_programs()
        options.output.mkdir(parents=True, exist_ok=True)
        return _soak(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (StageboxError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1


def _soak(options: Options) -> int:
    path = options.output / "soak.csv"
    interrupted = _run(options, path)
    failed = report(path)
    return _INTERRUPTED if interrupted else int(failed)


def report(path: Path) -> bool:
    """Print the verdict and draw it, beside the samples; return whether something failed."""
    # Not before the run: what drawing takes would be room in which a leak could hide.
    from . import picture, verdict  # noqa: PLC0415

    rows = read_samples(path)
    if len(rows) < 3:
        print("ended before the first second was over: nothing to tell")
        return False
    results = verdict.checks(rows)
    for result in results:
        word = {True: "ok", False: "FAILED", None: "cannot tell"}[result.holds]
        print(f"{word:12} {result.name}: {result.text}")
    image = path.with_suffix(".png")
    picture.draw(rows, results, image)
    print(f"written: {path}, {image}")
    return any(result.holds is False for result in results)


def _run(options: Options, path: Path) -> bool:
    """Write the samples; return whether Ctrl-C ended it."""
    with (
        path.open("w") as file,
        tempfile.TemporaryDirectory(prefix="stagebox-soak-") as directory,
        PrivateGraph() as graph,
    ):
        samples = SampleFile(file)
        host = Host(graph, Path(directory), options)
        before = host.sample()
        samples.add(before)
        try:
            with host.running():
                _watch(host, samples, options.minutes * 60)
        except KeyboardInterrupt:
            return True
        finally:
            _wait_for_threads(before.process.threads)
            samples.add(host.sample())
    return False


def _wait_for_threads(count: int) -> None:
    """Wait a second at most: a thread that was joined is listed for a moment still."""
    deadline = time.monotonic() + 1
    while Process.now().threads > count and time.monotonic() < deadline:
        time.sleep(0.01)


def _watch(host: Host, samples: SampleFile, total_s: float) -> None:
    show = _progress(total_s)
    began = time.monotonic()
    for second in range(1, round(total_s) + 1):
        time.sleep(max(0.0, began + second - time.monotonic()))
        host.raise_failure()
        sample = host.sample()
        samples.add(sample)
        show(second, sample)


def _progress(total_s: float) -> Callable[[int, Sample], None]:
    lost = 0

    def show(second: int, sample: Sample) -> None:
        nonlocal lost
        lost += sample.capture.lost
        text = (
            f"{second / 60:.1f} of {total_s / 60:g} min: {sample.process.rss_kib / 1024:.1f} MiB, "
            f"{lost} frames lost"
        )
        if sys.stderr.isatty():
            print(f"\r{text} ", end="\n" if second >= total_s else "", file=sys.stderr, flush=True)
        elif second % 60 == 0:
            print(text, file=sys.stderr, flush=True)

    return show


def _require_packages() -> None:
    missing = [name for name in ("matplotlib", "soundfile") if not importlib.util.find_spec(name)]
    if missing:
        raise StageboxError(f"{' and '.join(missing)} missing: pip install 'stagebox[demo]'")


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=_minutes, default=30, metavar="N", help="how long (default: 30)")
    add(
        "--restart-every",
        type=_minutes,
        default=3,
        metavar="N",
        help="minutes from one restart of the daemon to the next (default: 3)",
    )
    add(
        "--output",
        type=Path,
        default=Path("soak"),
        metavar="DIR",
        help="where soak.csv and soak.png go (default: soak)",
    )
    add("--seed", type=int, default=1, metavar="N", help="of what is left to chance (default: 1)")
    return Options(**vars(parser.parse_args(argv)))


def _minutes(text: str) -> float:
    value = float(text)
    if not 1 / 60 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"use a second or more, not {text} minutes")
    return value


if __name__ == "__main__":
    sys.exit(main())
