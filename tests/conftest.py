"""What every kind of test shares."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A shell ignores it for what it runs in the background, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["stagebox.pytest_plugin"]


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
