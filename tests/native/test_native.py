"""Builds and runs the C tests under sanitizers, and reads what the data thread's files may call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"

FLAGS = (
    "-std=gnu11",
    "-pthread",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
)
ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-fsanitize=thread",)

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
    # the time, which the kernel maps into the process (vDSO): no system call
    "clock_gettime",
    # the linker's, not a call
    "_GLOBAL_OFFSET_TABLE_",
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


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
    program = tmp_path / name
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, *FLAGS, *sanitizer, f"-I{CSRC}", HERE / f"{name}.c", "-lm", "-o", program],
        check=True,
    )
    done = run(program)
    if "unexpected memory mapping" in done.stderr:  # TSan, where addresses are very random
        done = run("setarch", "-R", program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok ")


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
