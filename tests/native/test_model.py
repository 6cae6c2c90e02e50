"""Every execution of the lock-free code at small sizes, under the C11 memory model, and what
happens where the code is a little wrong: see model/checker.c."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.native.program import CSRC, FLAGS, HERE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = HERE / "model"
COMPILER = os.environ.get("CC", "cc")
SUBJECT = (
    # each access to memory becomes a call, and none is optimised away
    "-fsanitize=thread",
    "-O0",
    "-Dmemcpy=model_memcpy",
    "-Dmemset=model_memset",
    # of a source file, only what a program calls
    "-ffunction-sections",
    "-D_GNU_SOURCE",
)


def compile_c(*arguments: str | Path) -> None:
    subprocess.run([COMPILER, *FLAGS, *arguments], check=True)


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "checker.o"
    compile_c("-O2", "-c", MODEL / "checker.c", "-o", path)
    return path


def pipewire_flags() -> list[str]:
    listed = subprocess.run(
        ["pkg-config", "--cflags", "libpipewire-0.3"], capture_output=True, text=True, check=True
    )
    return [flag.replace("-I", "-isystem", 1) for flag in listed.stdout.split()]


def build(name: str, checker: Path, source: Path, program: Path) -> None:
    """Build a program of model/ with the code in the directory `source`."""
    compile_c(
        *SUBJECT,
        f"-I{source}",
        *pipewire_flags(),
        "-c",
        MODEL / f"{name}.c",
        "-o",
        program.with_suffix(".o"),
    )
    compile_c("-Wl,--gc-sections", checker, program.with_suffix(".o"), "-o", program)


def run(program: Path, size: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, size], capture_output=True, text=True, timeout=1700, check=False
    )


@pytest.mark.parametrize("name", ["model_ring", "model_alarm", "model_mic"])
def test_every_execution_is_right(
    name: str,
    checker: Path,
    tmp_path: Path,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    build(name, checker, CSRC, tmp_path / name)
    done = run(tmp_path / name, "full" if rounds(0, 1) else "short")
    assert done.returncode == 0, done.stderr[:5000]
    for line in done.stdout.splitlines():
        assert line.startswith("ok ")
        figure(line.removeprefix("ok "))


def test_the_checker_knows_its_memory_model(checker: Path, tmp_path: Path) -> None:
    build("litmus", checker, CSRC, tmp_path / "litmus")
    done = run(tmp_path / "litmus", "short")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")


@dataclass(frozen=True, slots=True)
class Mutant:
    """The code with something wrong, which a program must notice."""

    program: str
    file: str
    right: str
    wrong: str
    nth: int = 0  # of the places where `right` is found

    def apply(self, source: Path) -> None:
        path = source / self.file
        before, *places = path.read_text().split(self.right)
        assert self.nth < len(places), f"{self.right!r} is not in {self.file}"
        text = before
        for i, rest in enumerate(places):
            text += (self.wrong if i == self.nth else self.right) + rest
        path.write_text(text)


def weaker(program: str, file: str, operation: str, order: str, nth: int = 0) -> Mutant:
    """One atomic operation with a weaker memory order; `operation` ends with the right one."""
    return Mutant(
        program, file, operation, operation[: operation.rindex("order_") + 6] + order, nth
    )


RELEASED = "&ring->marks_written, mark + 1, memory_order_release"
PUBLISHED = "&ring->write_position, written + count, memory_order_release"
MARKS = "&ring->marks_written, memory_order_acquire"
SET = "atomic_exchange_explicit(&rt->alarm, position, memory_order_acquire)"
SEEN = "atomic_fetch_add_explicit(&rt->alarm, 0, memory_order_release)"
SECOND_LOOK = "atomic_load_explicit(&rt->ring.write_position, memory_order_acquire) >= position"

MUTANTS = {
    # --- memory orders of the ring
    "write_position_published_relaxed": weaker("model_ring", "ring.h", PUBLISHED, "relaxed"),
    "marks_written_published_relaxed": weaker("model_ring", "ring.h", RELEASED, "relaxed"),
    "write_position_loaded_relaxed": weaker(
        "model_ring", "ring.h", "&ring->write_position, memory_order_acquire", "relaxed"
    ),
    "marks_written_loaded_relaxed_by_release": weaker("model_ring", "ring.h", MARKS, "relaxed"),
    "marks_written_loaded_relaxed_by_contiguous": weaker(
        "model_ring", "ring.h", MARKS, "relaxed", 1
    ),
    "marks_written_loaded_relaxed_by_older_than": weaker(
        "model_ring", "ring.h", MARKS, "relaxed", 2
    ),
    "read_position_loaded_relaxed": weaker(
        "model_ring", "ring.h", "&ring->read_position, memory_order_acquire", "relaxed"
    ),
    "read_position_loaded_relaxed_by_depth": weaker(
        "model_ring", "ring.h", "&ring->read_position, memory_order_acquire", "relaxed", 1
    ),
    "marks_read_loaded_relaxed": weaker(
        "model_ring", "ring.h", "&ring->marks_read, memory_order_acquire", "relaxed"
    ),
    "read_position_published_relaxed": weaker(
        "model_ring", "ring.h", "&ring->read_position, read, memory_order_release", "relaxed"
    ),
    "marks_read_published_relaxed": weaker(
        "model_ring", "ring.h", "&ring->marks_read, mark, memory_order_release", "relaxed"
    ),
    # --- the ring's steps
    "write_position_published_before_the_mark": Mutant(
        "model_ring",
        "ring.h",
        f"atomic_store_explicit({RELEASED});\n    atomic_store_explicit({PUBLISHED});",
        f"atomic_store_explicit({PUBLISHED});\n    atomic_store_explicit({RELEASED});",
    ),
    "read_position_published_before_the_copy": Mutant(
        "model_ring",
        "ring.h",
        "    sbx_copy(frames, ring->samples + span.start, span.first);\n"
        "    sbx_copy(frames + span.first, ring->samples, span.rest);\n"
        "    sbx_ring_skip(ring, count);\n",
        "    sbx_ring_skip(ring, count);\n"
        "    sbx_copy(frames, ring->samples + span.start, span.first);\n"
        "    sbx_copy(frames + span.first, ring->samples, span.rest);\n",
    ),
    "one_frame_too_many": Mutant(
        "model_ring",
        "ring.h",
        "count > ring->capacity - (written",
        "count > 1 + ring->capacity - (written",
    ),
    "one_frame_too_few": Mutant(
        "model_ring",
        "ring.h",
        "count > ring->capacity - (written",
        "count >= ring->capacity - (written",
    ),
    "one_mark_too_many": Mutant(
        "model_ring",
        "ring.h",
        "mark_read >= ring->mark_capacity",
        "mark_read > ring->mark_capacity",
    ),
    "the_mark_in_use_is_released": Mutant(
        "model_ring", "ring.h", "mark + 1 < written && sbx_ring", "mark < written && sbx_ring"
    ),
    "a_mark_is_released_late": Mutant(
        "model_ring", "ring.h", "mark + 1)->position <= position", "mark + 1)->position < position"
    ),
    "a_mark_is_released_early": Mutant(
        "model_ring", "ring.h", "mark + 1)->position <= position", "mark)->position <= position"
    ),
    # --- memory orders of the alarm
    "alarm: set_relaxed": Mutant(
        "model_alarm", "capture.c", SET, SET.replace("acquire", "relaxed")
    ),
    "alarm: set_but_not_exchanged": Mutant(
        "model_alarm",
        "capture.c",
        SET,
        "atomic_store_explicit(&rt->alarm, position, memory_order_release)",
    ),
    "alarm: seen_relaxed": Mutant(
        "model_alarm", "capture_rt.c", SEEN, SEEN.replace("release", "relaxed")
    ),
    "alarm: seen_but_not_modified": Mutant(
        "model_alarm",
        "capture_rt.c",
        SEEN,
        "atomic_load_explicit(&rt->alarm, memory_order_acquire)",
    ),
    # --- the alarm's steps
    "alarm: no_second_look": Mutant("model_alarm", "capture.c", SECOND_LOOK, "false"),
    "alarm: second_look_for_more": Mutant(
        "model_alarm", "capture.c", SECOND_LOOK, SECOND_LOOK.replace(">=", ">")
    ),
    "alarm: rung_for_more": Mutant(
        "model_alarm",
        "capture_rt.c",
        "memory_order_relaxed) < alarm",
        "memory_order_relaxed) <= alarm",
    ),
    "alarm: reset_after_ringing": Mutant(
        "model_alarm",
        "capture_rt.c",
        "    (void)written;\n",
        "    (void)written;\n"
        "    atomic_store_explicit(&rt->alarm, SBX_NOBODY_WAITS, memory_order_relaxed);\n",
    ),
    "alarm: passed_for_armed": Mutant(
        "model_alarm",
        "capture.c",
        "min_frames == 1 &&\n           ",
        "min_frames != 0 &&\n           ",
    ),
    "alarm: left_armed_for_many": Mutant(
        "model_alarm", "capture.c", "            arm_locked(capture, 1);\n", "            {}\n"
    ),
    "alarm: woken_before_closed": Mutant(
        "model_alarm",
        "capture.c",
        "    sbx_stream_close(&capture->stream);\n    wake(capture);\n",
        "    wake(capture);\n    sbx_stream_close(&capture->stream);\n",
    ),
    "alarm: closed_passes_for_dead": Mutant(
        "model_alarm",
        "capture.c",
        "depth == 0 && state == SBX_GONE",
        "depth == 0 && is_over(capture)",
    ),
    "alarm: the_end_is_not_looked_for": Mutant(
        "model_alarm",
        "capture.c",
        " ||\n        is_over(capture))\n        wake",
        ")\n        wake",
    ),
    # --- the microphone
    "mic: discard_published_relaxed": weaker(
        "model_mic", "mic.c", "memory_order_release", "relaxed"
    ),
    "mic: discard_loaded_relaxed": weaker(
        "model_mic", "mic_rt.c", "&rt->discard_before, memory_order_acquire", "relaxed"
    ),
    "mic: discard_loaded_relaxed_for_the_figures": weaker(
        "model_mic", "mic.c", "&rt->discard_before, memory_order_acquire", "relaxed"
    ),
    "mic: no_lock_for_pushers": Mutant(
        "model_mic", "mic.c", "    pthread_mutex_lock(&mic->pusher);\n    const", "    const"
    ),
}


def is_found(mutant: Mutant, checker: Path, place: Path) -> bool:
    source = place / "csrc"
    source.mkdir(parents=True)
    for path in CSRC.glob("*.[ch]"):
        (source / path.name).write_text(path.read_text())
    mutant.apply(source)
    build(mutant.program, checker, source, place / mutant.program)
    done = run(place / mutant.program, "short")
    return done.returncode == 1 and done.stderr.startswith("failed: ")


def test_mistakes_are_found(
    checker: Path,
    tmp_path: Path,
    rounds: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Every sixth; with --full, all: a compiler takes a second for each."""
    names = list(MUTANTS)[:: 6 // rounds(1, 6)]
    missed = [name for name in names if not is_found(MUTANTS[name], checker, tmp_path / name)]
    figure(f"{len(names)} mistakes made in the code, {len(missed)} not found")
    assert not missed
