"""Ask every question, one after the other, and write the answers into a directory.

example:
  python -m benchmarks

Each question is a script of its own: python -m benchmarks.capture_latency --help
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from .kit.answer import table
from .kit.script import RESULTS

SCRIPTS: Final = (
    "capture_latency",
    "capture_cost",
    "busy_interpreter",
    "busy_machine",
    "voice_in_latency",
    "passthrough",
    "decode_cost",
    "many_streams",
    "ring",
    "start",
    "callback",
)

README: Final = Path(__file__).parents[1] / "README.md"

_TABLE: Final = re.compile(r"(<!-- benchmarks: begin -->\n).*(<!-- benchmarks: end -->)", re.DOTALL)


def main() -> int:
    """Ask all; 0 when every target was reached."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Ask every question, one after the other, and write the answers.",
        epilog="Each is a script of its own: python -m benchmarks.capture_latency --help",
    )
    parser.add_argument("--rounds", default="5", help="turns of each contender (default: 5)")
    parser.add_argument("--scale", default="1", help="how much longer each takes (default: 1)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the answers go")
    options = parser.parse_args()
    failed = []
    for number, script in enumerate(SCRIPTS, 1):
        began = time.monotonic()
        print(f"{number} of {len(SCRIPTS)}: {script}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script}", "--output", str(options.output)]
        done = subprocess.run(
            [*command, "--rounds", options.rounds, "--scale", options.scale],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            failed.append(script)
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    summary = summarise(options.output)
    (options.output / "README.md").write_text(summary)
    print(summary)
    if options.output == RESULTS:
        text = README.read_text()
        README.write_text(_TABLE.sub(lambda match: match[1] + summary + match[2], text))
    if failed:
        print(f"missed a target, or failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def summarise(directory: Path) -> str:
    """Return a table of all that was asked, as the README shows it."""
    rows = []
    answer: dict[str, Any] = {}
    for script in SCRIPTS:
        file = directory / f"{script}.json"
        if not file.exists():
            continue
        answer = json.loads(file.read_text())
        link = f"[{answer['question']}](benchmarks/results/{script}.md)"
        lines = [
            f"{'' if target['holds'] else '**missed:** '}{target['name']}: {target['found']}"
            for target in answer["targets"]
        ]
        rows.append((link, "<br>".join(lines) or "see there"))
    lines = table(("question", "asked for: found"), rows)
    return "\n".join([*lines, "", f"{answer.get('date')}, {answer.get('machine')}.", ""])


if __name__ == "__main__":
    sys.exit(main())
