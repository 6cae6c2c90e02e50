"""What `make matrix` decides, without a root: which runs, what is written down, what pip needs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import matrix

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = {"daemon": "1.4.2", "manager": "0.5.8", "client": "0.3.65", "python": "3.11.2"}


def test_runs_are_chosen_by_name_or_suite() -> None:
    assert matrix.chosen([]) == list(matrix.RUNS)
    assert matrix.chosen(["sid", "host"]) == ["host", "sid-daemons", "sid-inside"]
    assert matrix.chosen(["trixie-inside"]) == ["trixie-inside"]
    with pytest.raises(matrix.MatrixError, match="woody; there are host, trixie-daemons"):
        matrix.chosen(["woody"])


def test_what_passed_only_when_repeated_is_told_apart_from_what_failed() -> None:
    first = matrix.Report(total=10, skipped=1, failures=["a", "b", "c"])
    found = matrix.Outcome("host", VERSIONS, first, failures=["b"])
    assert found.repeated == ["a", "c"]
    assert "| PipeWire 1.4.2 | WirePlumber 0.5.8 | 0.3.65 | 3.11.2 | 8 | 2 | 1 | 1 |" in found.row()


def test_a_run_replaces_its_own_row_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "doc.md"
    monkeypatch.setattr(matrix, "DOCUMENT", document)
    document.write_text(f"before\n\n{matrix.BEGIN}\n{matrix.END}\n\nafter\n")
    for run, total in (("sid-inside", 1), ("host", 2), ("sid-inside", 3)):
        matrix.record(matrix.Outcome(run, VERSIONS, matrix.Report(total, 0, []), []))
    begin, title, _, host, inside, end = document.read_text().splitlines()[2:8]
    assert (begin, end) == (matrix.BEGIN, matrix.END)
    assert title.startswith("| daemon |")
    assert "| 2 | 0 | 0 | 0 |" in host
    assert "| 3 | 0 | 0 | 0 |" in inside
    assert document.read_text().startswith("before\n\n")
    assert document.read_text().endswith("\n\nafter\n")


def test_pips_own_directories_are_shared_with_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, index = tmp_path / "wheels", tmp_path / "index" / "simple"
    wheels.mkdir()
    index.mkdir(parents=True)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"https://example.org/simple file://{index}")
    env, shared = matrix.root_environment()
    assert env["PIP_FIND_LINKS"] == str(wheels)
    assert {wheels, index.parent} <= set(shared)  # an index's pages link to what is beside it
    assert env["PIP_CERT"] == matrix.CERTIFICATES  # the root's own


def test_a_step_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such suite'); raise SystemExit(1)"]
    with pytest.raises(matrix.MatrixError, match=r"making it failed(.|\n)*no such suite"):
        matrix.quietly("making it", command, {}, tmp_path / "log")


@pytest.mark.skipif(not (matrix.CHECKOUT / ".git").exists(), reason="git knows what to copy")
def test_a_copy_of_the_checkout_has_what_git_would_and_keeps_what_it_built(tmp_path: Path) -> None:
    matrix.copy_checkout(tmp_path)
    built, stale = tmp_path / "build" / "core.o", tmp_path / "csrc" / "removed.c"
    built.parent.mkdir()
    built.write_text("")
    stale.write_text("")
    before = (tmp_path / "pyproject.toml").stat().st_mtime_ns
    (tmp_path / "Makefile").write_text("changed")
    matrix.copy_checkout(tmp_path)
    assert built.exists()
    assert not stale.exists()
    assert (tmp_path / "pyproject.toml").stat().st_mtime_ns == before
    assert (tmp_path / "Makefile").read_text() == (matrix.CHECKOUT / "Makefile").read_text()
    assert not (tmp_path / ".venv").exists()


def test_the_command_has_help() -> None:
    script = matrix.CHECKOUT / "scripts" / "matrix.py"
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    )
    assert "trixie-inside" in done.stdout
