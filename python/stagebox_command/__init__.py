"""Where the program `stagebox` begins: Ctrl-C is answered plainly from the first moment on.

Not in the package `stagebox`, whose import takes a moment (numpy's does) in which the interpreter
would answer with a traceback.
"""

import os
import signal

_INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Run the command line and return its exit code."""
    # Left alone where it is ignored, as for a program that a script runs in the background.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from stagebox.cli import main as run  # noqa: PLC0415 - the moment in question

    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:  # before there is a command that could answer
        return _INTERRUPTED
