"""The pytest fixture that comes with stagebox: `private_graph`.

In a conftest.py: `pytest_plugins = ["stagebox.pytest_plugin"]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .testing import PrivateGraph


@pytest.fixture
def private_graph() -> Iterator[PrivateGraph]:
    """A `stagebox.testing.PrivateGraph` with a stereo sink, for one test."""
    from .testing import PrivateGraph  # noqa: PLC0415 - not before a test asks for it

    with PrivateGraph() as graph:
        yield graph
