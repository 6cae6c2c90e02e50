"""A look that takes less than a minute, for continuous integration.

It fails when frames are lost that the graph delivered, or when a callback runs a tenth more
instructions in a cycle than is written in benchmarks/instructions.json; never for a time.

  python -m benchmarks.quick
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from stagebox import StageboxError

from .kit import instructions
from .kit.answer import table
from .kit.graph import bench_graph
from .kit.listening import FLOOR, STAGEBOX, Listening

KNOWN: Final = Path(__file__).parent / "instructions.json"
MOST: Final = 1.1
QUANTUM: Final = 256
TURN_S: Final = 5.0


def compiler() -> str:
    """Name what the instructions depend on."""
    printed = subprocess.run(
        ["cc", "-dumpversion"], capture_output=True, text=True, check=True
    ).stdout
    return f"gcc {printed.strip()} {platform.machine()}"


def main() -> int:
    """Look; 1 when something got worse that must not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quick",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="write down this count as the known")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="stagebox-bench-") as scratch:
            rows = count(Path(scratch), update=options.update) + listen(Path(scratch))
    except (StageboxError, OSError) as error:
        print(f"benchmarks.quick: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(("what", "found", "at most", ""), rows)))
    return 1 if any(row[-1] == "FAILED" for row in rows) else 0


def count(scratch: Path, *, update: bool) -> list[tuple[str, str, str, str]]:
    """Compare the callbacks' instructions with what is known of this compiler's."""
    found = instructions.per_cycle(scratch)
    known = json.loads(KNOWN.read_text())
    if update:
        known[compiler()] = found
        KNOWN.write_text(json.dumps(known, indent=2) + "\n")
    rows = []
    for callback, number in found.items():
        most = known.get(compiler(), {}).get(callback)
        name = f"{callback}: instructions a cycle"
        if most is None:
            rows.append((name, f"{number:.0f}", f"not known of {compiler()}", ""))
        else:
            word = "ok" if number <= MOST * most else "FAILED"
            rows.append((name, f"{number:.0f}", f"{MOST * most:.0f}", word))
    return rows


def listen(scratch: Path) -> list[tuple[str, str, str, str]]:
    """Read for a while, with the interpreter idle and busy, and beside it the floor."""
    rows = []
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        listening = Listening(graph, scratch)
        for name, busy in ((STAGEBOX, 0), (STAGEBOX, 2), (FLOOR, 0)):
            heard = listening.turn(name, QUANTUM, TURN_S, busy)
            who = f"{name}, {busy} busy threads" if busy else name
            if name == STAGEBOX:
                word = "ok" if heard.dropped == 0 else "FAILED"
                rows.append((f"{who}: frames lost", str(heard.dropped), "0", word))
            times = f"{heard.p50:.2f} and {heard.p99:.2f} ms"
            rows.append((f"{who}: latency p50 and p99", times, "", ""))
            rows.append((f"{who}: CPU", f"{100 * heard.cpu:.2f} % of a core", "", ""))
    return rows


if __name__ == "__main__":
    sys.exit(main())
