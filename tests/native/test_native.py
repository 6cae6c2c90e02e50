"""Builds and runs the C tests under sanitizers, and reads what the data thread's files may call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.program import ADDRESS, CSRC, HERE, THREAD, build, run_sanitized

ROOT = HERE.parents[1]

ALLOWED_ON_THE_DATA_THREAD = {
    # PipeWire's own real-time-safe calls
    "pw_stream_dequeue_buffer",
    "pw_stream_get_time_n",
    "pw_stream_queue_buffer",
    # copies, also as the compiler's hardening spells them
    "memcpy",
    "__memcpy_chk",
    "memmove",
    "memset",
    "__memset_chk",
    "__stack_chk_fail",
    # the eventfd that wakes a waiting reader
    "write",
    # an atomic addition, as gcc calls it where some processors have an instruction for it
    "__aarch64_ldadd8_rel",
    # the time, which the kernel maps into the process (vDSO): no system call
    "clock_gettime",
    # the linker's, not a call
    "_GLOBAL_OFFSET_TABLE_",
}


@pytest.mark.parametrize(
    ("name", "sanitizer"),
    [
        ("test_ring", ADDRESS),
        ("test_jitter", ADDRESS),
        ("test_ring_threads", ADDRESS),
        ("test_ring_threads", THREAD),
    ],
)
def test_c_code_passes_its_tests_under(
    name: str, sanitizer: tuple[str, ...], tmp_path: Path
) -> None:
    program = build(tmp_path / name, *sanitizer, HERE / f"{name}.c", "-lm")
    done = run_sanitized(program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok ")


def test_every_branch_of_the_ring_policy_is_taken_both_ways(tmp_path: Path) -> None:
    """Without optimisation, so that a branch is one in the source."""

    def here(*command: str | Path) -> str:
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    here("gcc", "--coverage", "-O0", f"-I{CSRC}", HERE / "test_jitter.c", "-o", "test_jitter")
    here(tmp_path / "test_jitter")
    counts = json.loads(here("gcov", "-b", "--json-format", "--stdout", *tmp_path.glob("*.gcda")))
    lines = [
        line
        for file in counts["files"]
        if Path(file["file"]).name == "jitter.h"
        for line in file["lines"]
    ]
    assert sum(len(line["branches"]) for line in lines) > 20  # the right file was read
    missed = [
        line["line_number"]
        for line in lines
        if line["count"] == 0 or any(branch["count"] == 0 for branch in line["branches"])
    ]
    assert not missed, f"lines of jitter.h: {missed}"


def newest_build() -> Path:
    builds = sorted((ROOT / "build").glob("*/compile_commands.json"), key=os.path.getmtime)
    assert builds, "nothing is built in build/: run `make test`"
    return builds[-1].parent


def compilations(build: Path) -> list[dict[str, str]]:
    """How CMake compiles each of our C files."""
    entries = json.loads((build / "compile_commands.json").read_text())
    ours = [entry for entry in entries if Path(entry["file"]).parent == CSRC]
    assert len(ours) == len(list(CSRC.glob("*.c")))
    return ours


def built_objects() -> dict[str, Path]:
    """Object files of our C, by source name, from the newest build in this checkout."""
    return {
        Path(entry["file"]).name: Path(entry["directory"]) / entry["output"]
        for entry in compilations(newest_build())
    }


@pytest.mark.parametrize("source", ["capture_rt.c", "mic_rt.c"])
def test_the_data_thread_calls_only_what_it_may(source: str) -> None:
    listing = subprocess.run(
        ["nm", "-u", built_objects()[source]], capture_output=True, text=True, check=True
    )
    undefined = {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines()}
    assert "pw_stream_dequeue_buffer" in undefined  # the right file was read
    assert undefined <= ALLOWED_ON_THE_DATA_THREAD, sorted(undefined - ALLOWED_ON_THE_DATA_THREAD)


def test_every_data_thread_file_is_checked() -> None:
    assert {path.name for path in CSRC.glob("*_rt.c")} == {"capture_rt.c", "mic_rt.c"}


def test_where_make_builds_a_warning_is_an_error() -> None:
    assert all("-Werror" in entry["command"].split() for entry in compilations(newest_build()))


def test_where_a_user_builds_a_warning_is_no_error(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "cmake", "-S", ROOT, "-B", tmp_path),
            f"-DPython_EXECUTABLE={sys.executable}",
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    flags = [set(entry["command"].split()) for entry in compilations(tmp_path)]
    assert all(each >= {"-Wall", "-Wextra"} and "-Werror" not in each for each in flags)
