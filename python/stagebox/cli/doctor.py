"""`stagebox doctor`: what is wrong, and the command that mends it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from . import checks, options, terminal

if TYPE_CHECKING:
    import argparse

    from .checks import Finding

NAME: Final = "doctor"
HELP: Final = "check what sound needs, and say what mends it"
DESCRIPTION: Final = (
    "Check the libraries, the daemon, its session manager, the defaults, the graph's clock and\n"
    "whether our data thread has real-time priority: captures for a moment. Exit status 1 if\n"
    "something is wrong; a warning is not.\n\n"
    "--json prints a list of objects:\n"
    "  check   package, libopus, libpipewire, socket, daemon, session-manager, default-sink,\n"
    "          default-source, claims, settings, driver or real-time\n"
    "  status  ok, warning, wrong, or unknown: could not be found out\n"
    "  found   in words\n"
    "  fix     the command that mends it; empty where there is nothing to mend, or none is known"
)
EXAMPLE: Final = "stagebox doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `stagebox doctor` understands."""
    parser.add_argument("--json", action="store_true", help="a list of objects")
    options.add_remote(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check; 1 if something is wrong."""
    terminal.take_any_character()
    findings = []
    with terminal.reader_may_leave():
        for finding in checks.findings(arguments.remote):
            findings.append(finding)
            if not arguments.json:
                print(told(finding), flush=True)
        if arguments.json:
            print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return 1 if any(finding.status == "wrong" for finding in findings) else 0


def told(finding: Finding) -> str:
    """Return a line: how it is, what was looked at, what was found, what mends it."""
    status = finding.status.upper() if finding.status == "wrong" else finding.status
    found = terminal.shown(" ".join(finding.found.split()))
    line = f"{status:<8} {finding.check:<16} {found}"
    return f"{line}; fix: {finding.fix}" if finding.fix else line
