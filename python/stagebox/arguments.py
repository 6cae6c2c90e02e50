"""Arguments are checked here, at the door: errors name them, their value and what would do."""

from __future__ import annotations

import math
import numbers
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from collections.abc import Collection


def text(name: str, value: str) -> bytes:
    """Encode a node's name or description, which PipeWire keeps as it is."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value or "\0" in value:
        raise ValueError(f"{name} must not be empty or contain a NUL character: {value!r}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be Unicode text without lone surrogates: {error}") from None


def whole(name: str, value: SupportsIndex) -> int:
    """Return a whole number, of whatever type has `__index__` (numpy's too), as an int."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return operator.index(value)


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
    if type(value) is bool or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be seconds, not {type(value).__name__}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    return float(value)
