"""Waiting for a descriptor in an event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


async def readable(descriptor: int) -> None:
    """Wait until `descriptor` can be read, and close it.

    A duplicate of what is waited for: a loop takes a descriptor once, and others may wait as well.
    """
    import asyncio  # noqa: PLC0415 - a third of what `import stagebox` would take

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    # Removed as soon as it fires: left in place it would fire until what waits is taken.
    loop.add_reader(descriptor, _resolve, loop, descriptor, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _resolve(loop: asyncio.AbstractEventLoop, descriptor: int, ready: asyncio.Future[None]) -> None:
    loop.remove_reader(descriptor)
    if not ready.done():
        ready.set_result(None)
