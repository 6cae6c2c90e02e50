"""The C programs beside the scripts: libpipewire and nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stagebox import StageboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE: Final = Path(__file__).parents[1] / "floor"
CORE: Final = Path(__file__).parents[2] / "csrc"

_FLAGS: Final = (
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def build(
    name: str,
    into: Path,
    *libraries: str,
    sources: Sequence[Path] = (),
    flags: Sequence[str] = (),
) -> Path:
    """Compile `benchmarks/floor/NAME.c` with packages that pkg-config knows, and return it.

    `sources` of ours and `flags` come with it.

    Raises StageboxError with what the compiler said.
    """
    program = into / name
    found = _run("pkg-config", "--cflags", "--libs", *libraries).replace("-I", "-isystem")
    _run(
        os.environ.get("CC", "cc"),
        *_FLAGS,
        f"-I{CORE}",
        *flags,
        str(SOURCE / f"{name}.c"),
        *map(str, sources),
        "-o",
        str(program),
        *shlex.split(found),
    )
    return program


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StageboxError(f"the benchmarks need {command[0]}") from error
    if done.returncode:
        raise StageboxError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout


def pipewire_version() -> str:
    """Return the version of the libpipewire that programs are built with."""
    return _run("pkg-config", "--modversion", "libpipewire-0.3").strip()
