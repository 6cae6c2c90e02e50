"""What keeps processors busy: processes, and threads that compute in pure Python.

python -m benchmarks.kit.busy THREADS
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def spinning(count: int, threads: int = 1) -> Iterator[None]:
    """Have that many processes of that many threads each compute."""
    command = [sys.executable, "-m", __name__, str(threads)]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def busy_threads(count: int) -> Iterator[None]:
    """Have other threads compute in pure Python meanwhile."""
    stop = threading.Event()

    def spin() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) % 1_000_003

    threads = [threading.Thread(target=spin) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    with busy_threads(int(sys.argv[1])):
        signal.pause()
