"""Every exception stagebox raises on purpose, in one small tree.

Bad arguments are not here: they are `ValueError` and `TypeError`, naming the value and what
would be accepted.
"""


class StageboxError(Exception):
    """Base of every stagebox error."""


class PipeWireUnavailable(StageboxError):
    """No libpipewire, no daemon, or a handshake that timed out.

    The message says which, and what to install or start.
    """


class DaemonAbsent(PipeWireUnavailable):
    """No daemon listens, or it went away while it was asked. It may be back at any moment."""


class UnsupportedPlatform(StageboxError):
    """It never works here: not Linux, which has no PipeWire, or a sub-interpreter of Python."""


class CaptureClosed(StageboxError):
    """The capture was closed by its owner, perhaps in another thread while this one waited."""


class CaptureDied(StageboxError):
    """The capture's daemon or node is gone. Every later call raises it again: open a new one."""


class BackendDied(StageboxError):
    """A virtual microphone's daemon or node is gone. Open a new one."""


class GraphClosed(StageboxError):
    """The graph was closed by its owner, perhaps in another thread while this one waited."""


class CodecError(StageboxError):
    """libopus is missing, or it refused a packet or a block of PCM."""
