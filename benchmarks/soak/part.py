"""A thread of the soak."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Part(ABC, threading.Thread):
    """Works until it is told to stop, and remembers why it failed."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.stopping = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """What the thread does."""
        try:
            self.work()
        except Exception as error:  # the main thread tells, whatever it is
            self.error = error

    @abstractmethod
    def work(self) -> None:
        """Do it, until `stopping` is set."""

    def stop(self) -> None:
        """Have it end, and wait for that."""
        self.stopping.set()
        self.join()
