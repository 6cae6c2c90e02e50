"""Check the wheel and the sdist that `make wheel` made.

    check_wheel.py [VERSION ...]    3.12, say; else every CPython that pyproject.toml names

The wheel is installed, where no compiler can be found, into a clean virtual environment of each,
and the sdist's tests run there. The sdist is built, as pip would for a user.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
CLAIM = "Programming Language :: Python :: 3."

# A free-threaded interpreter may have the same name, and does not load extensions of this kind.
LOADS_ABI3 = """
import sys, sysconfig
sys.exit(sys.implementation.name != "cpython" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""

IS_INSTALLED = """
import stagebox, sys
print("testing", stagebox.__file__)
sys.exit(not stagebox.__file__.startswith(sys.prefix))
"""

NO_COMPILER = {**os.environ, **dict.fromkeys(("PATH", "CC", "CXX"), os.devnull)}


def claimed() -> list[str]:
    """The versions that the package says it works with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claims = [each for each in project["classifiers"] if each.startswith(CLAIM)]
    return [claim.split()[-1] for claim in claims]


def found(version: str) -> Path | None:
    """An interpreter of this version: on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    on_path = [Path(directory, f"python{version}") for directory in os.get_exec_path()]
    candidates = [*on_path, *pyenv.glob(f"{version}.*/bin/python{version}")]
    return next((path for path in candidates if path.exists() and is_usable(path)), None)


def is_usable(python: Path) -> bool:
    """Whether it runs (pyenv leaves names behind that do not) and can load the wheel."""
    done = subprocess.run([python, "-c", LOADS_ABI3], capture_output=True, check=False)
    return done.returncode == 0


def interpreters(versions: list[str]) -> dict[str, Path]:
    """Each version's interpreter: all of them, as a check of fewer would look like one of all."""
    pythons = {version: python for version in versions if (python := found(version))}
    if missing := [version for version in versions if version not in pythons]:
        sys.exit(f"check_wheel.py: no CPython {', '.join(missing)} on PATH or in pyenv's versions")
    return pythons


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] = os.environ) -> None:
    """Run a program, which must succeed, and let its output be seen."""
    print("+", *command, flush=True)
    done = subprocess.run(command, cwd=cwd, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"check_wheel.py: that failed, with status {done.returncode}")


def check_on(python: Path, wheel: Path, source: Path, venv: Path) -> None:
    """Install the wheel into a new virtual environment, without a compiler, and test it there."""
    run(python, "-m", "venv", venv)
    installed = venv / "bin" / "python"
    # opuslib comes as source only; it is pure Python.
    sources = ("--only-binary", ":all:", "--no-binary", "opuslib")
    run(installed, "-m", "pip", "install", "--quiet", *sources, f"{wheel}[test]", env=NO_COMPILER)
    run(installed, "-c", IS_INSTALLED, cwd=source)
    run(installed, "-m", "pytest", "tests/unit", "tests/graph", cwd=source)


def main() -> None:
    """Check everything; stop at the first failure."""
    pythons = interpreters(sys.argv[1:] or claimed())
    (wheel,) = (ROOT / "dist").glob("*-cp311-abi3-manylinux_*.whl")
    (sdist,) = (ROOT / "dist").glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    run(sys.executable, "-m", "abi3audit", "--strict", "--summary", wheel)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        source = scratch / sdist.name.removesuffix(".tar.gz")
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", scratch, source)
        for version, python in pythons.items():
            check_on(python, wheel, source, scratch / f"venv-{version}")
    print(f"the wheel passes on CPython {', '.join(pythons)}")


if __name__ == "__main__":
    main()
