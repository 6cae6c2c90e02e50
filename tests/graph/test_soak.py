"""The soak, for a few seconds: that it runs, ends, and leaves what it promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.soak.sample import read_samples
from tests.conftest import untraced, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]


def soak(output: Path, *options: str, env: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak", "--output", str(output), *options],
        cwd=CHECKOUT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_soak_of_seconds_leaves_samples_a_picture_and_a_verdict(tmp_path: Path) -> None:
    run = soak(tmp_path, "--minutes", "0.05", "--restart-every", "0.02")
    printed, complaints = run.communicate(timeout=60)
    assert (run.returncode, complaints) == (0, ""), printed
    assert "ok           lost frames: 0 of" in printed
    assert "cannot tell  memory:" in printed
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    rows = read_samples(tmp_path / "soak.csv")
    assert len(rows) == 5  # before, three seconds, after
    assert (rows["open_streams"][0], rows["open_streams"].max()) == (0, 4)
    assert rows["restarting"].any()
    assert rows["capture_frames"].sum() > 24_000
    assert rows["pump_packets"].sum() > 25
    assert rows["rss_kib"].min() > 10_000


def test_a_soak_that_is_interrupted_still_leaves_them(tmp_path: Path) -> None:
    run = soak(tmp_path, "--minutes", "5", env=untraced(os.environ))
    samples = tmp_path / "soak.csv"
    wait_until("a sample", lambda: samples.exists() and samples.read_text().count("\n") > 2, 30)
    run.send_signal(signal.SIGINT)
    printed, complaints = run.communicate(timeout=30)
    assert (run.returncode, complaints) == (130, ""), printed
    assert "lost frames" in printed
    assert read_samples(samples)["open_streams"][-1] == 0
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        ((), 1, "soak: the soak needs pw-play and pw-record; install them"),
        (("--minutes", "0"), 2, "use a second or more, not 0 minutes"),
        (("--minutes", "nan"), 2, "use a second or more, not nan minutes"),
        (("--minutes", "long"), 2, "invalid"),
    ],
)
def test_what_cannot_be_done_is_said_plainly(
    tmp_path: Path, options: tuple[str, ...], status: int, complaint: str
) -> None:
    run = soak(tmp_path, *options, env={**os.environ, "PATH": str(tmp_path)})
    _, complaints = run.communicate(timeout=30)
    assert run.returncode == status
    assert complaint in complaints
