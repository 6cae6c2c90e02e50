"""Every example runs, as it is, and ends by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stagebox.testing import PrivateGraph

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_every_example_runs_and_they_run_side_by_side(private_graph: PrivateGraph) -> None:
    running = {
        path.stem: subprocess.Popen(
            [sys.executable, path],
            env=private_graph.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in EXAMPLES
    }
    for name, example in running.items():
        printed, complaints = example.communicate(timeout=60)
        assert (example.returncode, complaints) == (0, ""), name
        assert re.search(r"Stats\(|Snapshot\(|Reading\(", printed.splitlines()[-1]), name


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
