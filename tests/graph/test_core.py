"""The C core on a real daemon, without a Python around it to hide what it does."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import wait_until
from tests.native.program import ADDRESS, CSRC, HERE, THREAD, build

if TYPE_CHECKING:
    from pathlib import Path

    from stagebox.testing import PrivateGraph
    from tests.graph.conftest import Applications

MEMCHECK = (
    "valgrind",
    "--fair-sched=yes",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect,possible",
    "--error-exitcode=1",
)


def build_core(program: Path, *flags: str) -> Path:
    """A capture, a microphone and all threads that a host may have, with the core linked in."""
    listed = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libpipewire-0.3"],
        capture_output=True,
        text=True,
        check=True,
    )
    library = [word.replace("-I", "-isystem", 1) for word in listed.stdout.split()]
    sources = [HERE / "test_stream.c", *sorted(CSRC.glob("*.c"))]
    # not optimised: PipeWire's headers, instrumented, take the compiler three times as long
    return build(program, *flags, "-O0", "-D_GNU_SOURCE", *sources, *library, "-lm")


def stream(graph: PrivateGraph, applications: Applications, *command: str | Path) -> str:
    """Run the program on the graph, its microphone recorded. What it says."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, graph.remote], stdout=pipe, stderr=pipe, text=True) as program:
        wait_until(
            "its microphone, or its end",
            lambda: program.poll() is not None or "stagebox-mic" in graph.node_names(),
            timeout=60,
        )
        with applications.recording():
            out, err = program.communicate(timeout=100)
    assert program.returncode == 0, out + err
    assert out == "ok a_capture_and_a_microphone_open_stream_and_close\n"
    return err


@pytest.mark.parametrize(
    ("flags", "prefix"),
    # addresses are not random: there are more ways to be so than ThreadSanitizer knows
    [(ADDRESS, ()), (THREAD, ("setarch", "-R"))],
    ids=["address", "thread"],
)
def test_a_capture_and_a_microphone_stream_under_sanitizers(
    private_graph: PrivateGraph,
    applications: Applications,
    tmp_path: Path,
    flags: tuple[str, ...],
    prefix: tuple[str, ...],
) -> None:
    program = build_core(tmp_path / "stream", *flags)
    assert stream(private_graph, applications, *prefix, program) == ""


@pytest.mark.memcheck
def test_a_capture_and_a_microphone_stream_under_valgrind(
    private_graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    assert shutil.which("valgrind"), "valgrind is missing; on Debian: apt-get install valgrind"
    said = stream(private_graph, applications, *MEMCHECK, build_core(tmp_path / "stream"))
    assert "ERROR SUMMARY: 0 errors" in said, said
