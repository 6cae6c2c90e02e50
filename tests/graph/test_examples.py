"""Every example runs, as it is, and ends by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stagebox.testing import PrivateGraph

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(private_graph: PrivateGraph, example: Path) -> None:
    done = subprocess.run(
        [sys.executable, example],
        env=private_graph.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Stats(" in done.stdout.splitlines()[-1]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4
