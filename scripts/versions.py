"""Print, as JSON, what answers here: the versions that a private graph's own programs report."""

import ctypes
import json
import platform
import subprocess

from stagebox.testing import PrivateGraph


def versions() -> dict[str, str]:
    """Ask the daemon that runs, the session manager's program and the library that is loaded."""
    library_version = ctypes.CDLL("libpipewire-0.3.so.0").pw_get_library_version
    library_version.restype = ctypes.c_char_p
    with PrivateGraph() as graph:
        daemon = next(
            entry["info"]["version"]
            for entry in graph.dump()
            if entry["type"] == "PipeWire:Interface:Core"
        )
        manager = subprocess.run(
            ["wireplumber", "--version"], env=graph.env, capture_output=True, text=True, check=True
        )
    return {
        "daemon": daemon,
        "manager": manager.stdout.split()[-1],
        "client": library_version().decode(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    print(json.dumps(versions()))
