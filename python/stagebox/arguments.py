"""Arguments are checked here, at the door: errors name them, their value and what would do."""

from __future__ import annotations

import math
import numbers
import operator
import os
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_TEXT_BYTES: Final = 4096
"""Of a name or description in UTF-8. PipeWire carries more, but a message with megabytes of it
ends the connection, and with it every other stream of the process."""


def text(name: str, value: str) -> bytes:
    """Encode a node's name or description, which PipeWire keeps as it is."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value or "\0" in value:
        raise ValueError(f"{name} must not be empty or contain a NUL character: {value!r}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be Unicode text without lone surrogates: {error}") from None
    if len(encoded) > MAX_TEXT_BYTES:
        raise ValueError(
            f"{name} must be at most {MAX_TEXT_BYTES} bytes long in UTF-8, not {len(encoded)}"
        )
    return encoded


def path(name: str, value: str | os.PathLike[str]) -> str:
    """Check a file's path, or a name that may become one."""
    try:
        found = os.fsdecode(value)
        os.fsencode(found)
    except TypeError:
        raise TypeError(f"{name} must be a str or a path, not {type(value).__name__}") from None
    except UnicodeError as error:
        raise ValueError(f"{name} must be text that a path can have: {error}") from None
    if not found or "\0" in found:
        raise ValueError(f"{name} must not be empty or contain a NUL character: {found!r}")
    return found


def flag(name: str, value: object) -> bool:
    """Check a choice. Not by its truth: "no" is true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def word(name: str, value: object, accepted: str) -> bool:
    """Say whether the one word was given that does something; None is none."""
    if value is None:
        return False
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {accepted!r} or None, not {type(value).__name__}")
    if value != accepted:
        raise ValueError(f"{name} must be {accepted!r} or None, not {value!r}")
    return True


def whole(name: str, value: SupportsIndex) -> int:
    """Return a whole number, of whatever type has `__index__` (numpy's too), as an int."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return operator.index(value)


def packet(value: bytes | bytearray | memoryview) -> bytes:
    """Return a packet as bytes, copied if it could change.

    A class made from bytes is copied too: it may lie about its length, to libopus and to us.
    """
    if type(value) is bytes:
        return value
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise TypeError(f"packet must be bytes-like, not {type(value).__name__}") from None


def channel_count(value: SupportsIndex, accepted: Collection[int]) -> int:
    """Check a number of channels."""
    channels = whole("channels", value)
    if channels not in accepted:
        raise ValueError(f"channels must be one of {list(accepted)}, not {channels}")
    return channels


def quantum(value: SupportsIndex) -> int:
    """Check a `quantum_frames`: PipeWire's clock.min-quantum floor to its clock.quantum-limit."""
    frames = whole("quantum_frames", value)
    if not 4 <= frames <= 8192:
        raise ValueError(f"quantum_frames must be 4 to 8192, not {frames}")
    return frames


def seconds(name: str, value: Any) -> float:
    """Check a time: 0 or more, also for ever."""
    if type(value) is float and value >= 0:
        return value  # as it is mostly: what numbers.Real takes to ask would be half of a call
    if type(value) is bool or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be seconds, not {type(value).__name__}")
    try:
        found = float(value)
    except OverflowError:
        found = -math.inf if value < 0 else math.inf
    if math.isnan(found) or found < 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {found!r}")
    return found
