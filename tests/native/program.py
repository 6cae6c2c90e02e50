"""Programs in C, as tests build and run them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"

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
"""Also finds leaks, at the program's end."""
THREAD = ("-fsanitize=thread",)


def build(program: Path, *arguments: str | Path) -> Path:
    """Compile and link a program under our warnings."""
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *FLAGS, f"-I{CSRC}", *arguments, "-o", program], check=True)
    return program


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def run_sanitized(*command: str | Path) -> subprocess.CompletedProcess[str]:
    done = run(*command)
    if "unexpected memory mapping" in done.stderr:  # TSan, where addresses are very random
        done = run("setarch", "-R", *command)
    return done
