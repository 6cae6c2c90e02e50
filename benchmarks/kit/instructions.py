"""How many instructions of ours a callback runs in a cycle, as valgrind counts them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

from stagebox import StageboxError

from .floor import CORE, build
from .graph import require

if TYPE_CHECKING:
    from pathlib import Path

CALLBACKS: Final = ("capture", "mic")

_CYCLES: Final = 1000
_OURS: Final = re.compile(r"^\s*([\d,]+) .*\bcsrc/")


def per_cycle(scratch: Path) -> dict[str, float]:
    """Count them. What libc runs to copy is left out: it differs from processor to processor."""
    require(["valgrind", "callgrind_annotate"])
    program = build(
        "cycles",
        scratch,
        "libpipewire-0.3",
        sources=(CORE / "capture_rt.c", CORE / "mic_rt.c"),
    )
    return {callback: _count(program, callback, scratch) for callback in CALLBACKS}


def _count(program: Path, callback: str, scratch: Path) -> float:
    profile = scratch / f"callgrind.{callback}"
    _run(
        *("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}"),
        *(f"--toggle-collect=sbx_{callback}_process", str(program), callback, str(_CYCLES)),
    )
    listed = _run("callgrind_annotate", "--threshold=100", "--auto=no", str(profile))
    found = [match[1] for line in listed.splitlines() if (match := _OURS.match(line))]
    if not found:
        raise StageboxError(f"callgrind_annotate lists nothing of ours: {listed[-500:]}")
    return sum(int(number.replace(",", "")) for number in found) / _CYCLES


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageboxError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
    return done.stdout
