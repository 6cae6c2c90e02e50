"""`stagebox` as a process of its own, the way people run it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.conftest import untraced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stagebox.testing import PrivateGraph

STAGEBOX = [sys.executable, "-m", "stagebox.cli"]


class Command:
    """A `stagebox` that runs."""

    def __init__(
        self, graph: PrivateGraph, *arguments: object, traced: bool = True, **more: Any
    ) -> None:
        pipe = subprocess.PIPE
        env = {**graph.env, **more.pop("env", {})}
        self.process = subprocess.Popen(
            [*STAGEBOX, *map(str, arguments)],
            env=env if traced else untraced(env),
            **{"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **more},
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def line(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        line: bytes = self.process.stderr.readline()
        return line.decode()

    def ended(self, stdin: bytes | None = None) -> tuple[int, bytes, str]:
        """Wait for the end: exit code, stdout and what is left of stderr."""
        out, err = self.process.communicate(stdin, timeout=20)
        text = (err or b"").decode()
        assert "Traceback" not in text
        return self.process.returncode, out, text


@contextmanager
def running(graph: PrivateGraph, *arguments: object, **more: Any) -> Iterator[Command]:
    command = Command(graph, *arguments, **more)
    with command.process:
        try:
            yield command
        finally:
            command.process.kill()


def run(graph: PrivateGraph, *arguments: object, **more: Any) -> tuple[int, bytes, str]:
    with running(graph, *arguments, **more) as command:
        return command.ended()


@contextmanager
def with_a_terminal(
    graph: PrivateGraph, *arguments: object, **more: Any
) -> Iterator[tuple[Command, Callable[[], bytes]]]:
    """A command with a terminal for all three streams, and what reads what it shows."""
    master, slave = pty.openpty()
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    env = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}

    def read() -> bytes:
        try:
            return os.read(master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            return b""

    try:
        with running(graph, *arguments, env=env, **streams, **more) as command:
            os.close(slave)
            yield command, read
    finally:
        os.close(master)


def on_a_terminal(graph: PrivateGraph, *arguments: object) -> tuple[int, str]:
    """Run a command on a terminal; exit code and what it showed."""
    with with_a_terminal(graph, *arguments) as (command, read):
        shown = b"".join(iter(read, b""))
        return command.process.wait(10), shown.decode()
