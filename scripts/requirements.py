"""Print what pyproject.toml asks for, one requirement a line.

To build, run and test; or, with the names of extras, what these add.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
if sys.argv[1:]:
    wanted = [item for name in sys.argv[1:] for item in extras[name]]
else:
    everyday = [items for name, items in extras.items() if name != "bench"]
    wanted = [*project["dependencies"], *(item for items in everyday for item in items)]
print("\n".join(item for item in wanted if not item.startswith(f"{project['name']}[")))
