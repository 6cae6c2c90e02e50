"""What every kind of test shares."""

from __future__ import annotations

import inspect
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.footprint import MALLOC_IS_LIBCS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from _pytest.terminal import TerminalReporter

# A shell ignores it for what it runs in the background, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["stagebox.pytest_plugin"]

FULL_TIMEOUT_S = 1800


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="run only the tests that have a long form, at that length: docs/reliability.md",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        return
    short = [item for item in items if "rounds" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=short)
    items[:] = [item for item in items if item not in short]
    for item in items:
        item.add_marker(pytest.mark.timeout(FULL_TIMEOUT_S))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what `figure` noted, as rows for docs/reliability.md."""
    rows = [
        f"{report.nodeid.split('::')[-1]} | {text}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, text in report.user_properties
        if name == "figure"
    ]
    if rows:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(rows))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`rounds(4, 100)`: how much of something this run does, 4 or, with --full, 100."""
    full = bool(request.config.getoption("--full"))
    return lambda short, long: long if full else short


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`figure("deaths seen within 12 ms")`: have the end of the run show what was measured."""
    return lambda text: request.node.user_properties.append(("figure", text))


RIGHT: dict[str, Any] = {
    "backoff_cap": 60,
    "backoff_start": 2,
    "frames": 10,
    "heartbeat": 1,
    "kind": "sink",
    "name": "a-name",
    "out": np.zeros((5760, 2), np.float32),
    "packet": b"\0",
    "pcm": np.zeros((960, 2), np.float32),
    "stable_after": 5,
    "stale_gap": 0.6,
}
"""A right value for each argument of the public functions that has no default."""


def parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(function).parameters.values() if each.name != "self"]


def right_arguments(function: Callable[..., object]) -> dict[str, Any]:
    needed = [each.name for each in parameters(function) if each.default is each.empty]
    return {name: RIGHT[name] for name in needed}


def outcomes(
    thing: object, error: type[Exception], without: Collection[str] = ()
) -> dict[str, str]:
    """Use every public attribute of a thing; the message of each that raises `error`, by name.

    Anything else that is raised is for the caller to see.
    """
    said = {}
    for name in dir(type(thing)):
        if name.startswith("_") or name in without:
            continue
        try:
            value = getattr(thing, name)
            if callable(value) and getattr(value, "__self__", None) is thing:
                value(**right_arguments(value))
        except error as refusal:
            said[name] = str(refusal)
    return said


needs_libcs_malloc = pytest.mark.skipif(
    not MALLOC_IS_LIBCS,
    reason="a sanitizer that brings one has no figures of libc's, and cannot follow a forked child",
)


def untraced(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that gets signals: coverage's own lock does not survive one."""
    return {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}


def wait_until(what: str, condition: Callable[[], object], timeout: float = 10.0) -> float:
    """Wait for a condition, not for seconds. Returns how long it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout:
            pytest.fail(f"timed out after {timeout} s waiting for: {what}")
        time.sleep(0.005)
    return time.monotonic() - begin
