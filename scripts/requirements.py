"""Print what pyproject.toml asks for, to build, run and test: one requirement a line."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"], *(item for extra in extras.values() for item in extra)]
print("\n".join(item for item in wanted if not item.startswith(f"{project['name']}[")))
