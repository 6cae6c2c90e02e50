"""Every argument of every public function, wrong: refused by name, before anything is opened."""

from __future__ import annotations

import decimal
import inspect
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import stagebox
from stagebox import _native, arguments
from stagebox.capture import PipeWireCapture
from stagebox.mic import PipeWireMic
from stagebox.testing import PrivateGraph
from tests.conftest import parameters, right_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HUGE = 2**64
NO_WHOLE_NUMBER = [None, "2", 2.0, True, [2], math.nan, np.float32(2)]
NO_TEXT = [None, b"bytes", 5, ["a"]]
BAD_TEXT = ["", "a\0b", "\ud800", "x" * 4097, "é" * 2049]
NO_SECONDS = [None, "1", True, [1], 1j, decimal.Decimal(1), np.bool_(1)]
BAD_SECONDS = [-1, math.nan, -math.inf, -(10**400), np.float32(-1)]
NO_PCM = [None, 5, "text", [0.0, 0.0], np.zeros(4), np.zeros((2, 2), np.int16)]
NO_PACKET = [None, 5, "text", [1, 2], 2.0]

# parameter -> values that are of the wrong type, values that are of the right type but wrong
WRONG: dict[str, tuple[list[Any], list[Any]]] = {
    "channels": (NO_WHOLE_NUMBER, [0, 3, -1, HUGE, np.int64(-1)]),
    "quantum_frames": (NO_WHOLE_NUMBER, [3, 8193, -1, HUGE]),
    "frames": (NO_WHOLE_NUMBER, [0, -1, HUGE, 2**62]),
    "rate_hz": (NO_WHOLE_NUMBER, [0, -1, 7_999, 192_001, HUGE]),
    "bitrate": (["64000", 64_000.0, True, [1]], [0, -1, 499, 512_001, HUGE]),
    "target": (NO_TEXT[1:], BAD_TEXT),
    "apps": (
        [5, "firefox", b"firefox", [5.5], [True], [None]],
        [[], [0], [-1], *([text] for text in BAD_TEXT)],
    ),
    "except_apps": (
        [5, "firefox", b"firefox", [5.5], [True], [None]],
        [[], [0], [-1], *([text] for text in BAD_TEXT)],
    ),
    "sink": ([5, b"own", True, ["own"]], ["", "Own", "stagebox-sink"]),
    "keep_local": ([None, 0, 1, "no", np.bool_(1)], [True]),
    "default": ([5, b"session", True], ["", "Session", "priority"]),
    "name": (NO_TEXT, BAD_TEXT),
    "description": (NO_TEXT, BAD_TEXT),
    "make_default": ([None, 0, 1, "no", np.bool_(1)], []),
    "remote": ([0, False, 5, 2.0, [], {}], ["", b"", "a\0b", "\ud800"]),
    "timeout": (NO_SECONDS, BAD_SECONDS),
    "out": (NO_PCM[1:], []),
    "pcm": (NO_PCM, []),
    "packet": (NO_PACKET, []),
    "application": ([], ["music", None, 5, [], np.zeros(2), b"voip"]),
    "opener": ([None, 5, "text"], []),
    "tuning": ([None, 5, (2, 60, 1, 0.6, 5)], []),
    "kind": ([], ["", "Sink", None, 5]),
    **{
        name: (NO_SECONDS, [*BAD_SECONDS, math.inf, 10**400])
        for name in ("backoff_start", "backoff_cap", "heartbeat", "stale_gap", "stable_after")
    },
}

# None has a meaning there.
NONE_IS_FINE = {("PipeWireMic.set_target_frames", "frames")}


def closed_capture() -> PipeWireCapture:
    native = object.__new__(_native.Capture)
    native._handle = None
    return PipeWireCapture(native, 2)


def closed_mic() -> PipeWireMic:
    native = object.__new__(_native.Mic)
    native._handle = None
    return PipeWireMic(native, 2)


def idle_pump() -> stagebox.MicPump:
    def opener(_channels: int) -> stagebox.VirtualMic:
        raise stagebox.UnsupportedPlatform("a test")

    return stagebox.MicPump.start(opener)


# None of these has a daemon: what is refused is refused without one.
OPENED_BY_CALL: list[Callable[..., Any]] = [
    stagebox.open_audio_capture,
    stagebox.open_virtual_mic,
    stagebox.OpusDecoder,
    stagebox.OpusEncoder,
    stagebox.PumpTuning,
    PrivateGraph,
]
OBJECTS: dict[type, Callable[[], Any]] = {
    PipeWireCapture: closed_capture,
    PipeWireMic: closed_mic,
    stagebox.MicPump: idle_pump,
    stagebox.MicSender: lambda: idle_pump().sender(),
    stagebox.OpusDecoder: stagebox.OpusDecoder,
    stagebox.OpusEncoder: stagebox.OpusEncoder,
    PrivateGraph: PrivateGraph,
}


def arguments_of_everything() -> Iterator[tuple[str, str]]:
    """Each public function or method that takes something, and each thing that it takes."""
    for function in OPENED_BY_CALL:
        yield from ((function.__name__, each.name) for each in parameters(function))
    for kind in OBJECTS:
        for method_name, method in inspect.getmembers(kind, callable):
            if not method_name.startswith("_"):
                qualified = f"{kind.__name__}.{method_name}"
                yield from ((qualified, each.name) for each in parameters(method))


def found(qualified: str) -> Callable[..., Any]:
    """The function or method of that name, a method bound to an object of its class."""
    owner, _, method = qualified.partition(".")
    if not method:
        return getattr(stagebox, owner, None) or PrivateGraph
    kind = next(kind for kind in OBJECTS if kind.__name__ == owner)
    bound: Callable[..., Any] = getattr(OBJECTS[kind](), method)
    return bound


@pytest.mark.parametrize(("function", "name"), list(arguments_of_everything()))
def test_a_wrong_argument_is_refused_by_its_name(function: str, name: str) -> None:
    call = found(function)
    right = right_arguments(call)
    wrong_type, wrong_value = WRONG[name]
    if (function, name) in NONE_IS_FINE:
        wrong_type = [value for value in wrong_type if value is not None]
    for error, values in ((TypeError, wrong_type), (ValueError, wrong_value)):
        for value in values:
            with pytest.raises(error, match=rf"(?i){name}\b.* (must|at most|no sink)"):
                call(**{**right, name: value})


@pytest.mark.parametrize("timeout", [math.inf, 10**400, HUGE])
def test_a_pump_may_be_waited_for_for_ever(timeout: float) -> None:
    assert idle_pump().close(timeout)


def test_a_wrong_timeout_leaves_the_pump_as_it_was() -> None:
    pump = idle_pump()
    with pytest.raises(TypeError, match="timeout must be seconds"):
        pump.close("1")  # type: ignore[arg-type]
    pump.sender().close()  # a closed pump would give none
    assert pump.close()


# Few of all characters: those that end, quote or structure something somewhere.
SPECIAL = st.text(st.sampled_from("\0\n\t\"'\\{}[]=:,# %$;\ud800\udfff\ufeff\U0001f3a4éx"))


@given(st.one_of(st.text(), SPECIAL, st.builds(operator.mul, SPECIAL, st.integers(0, 4097))))
@example("x" * 4096)
@example("é" * 2049)
def test_a_name_is_carried_exactly_or_refused(name: str) -> None:
    try:
        encoded = arguments.text("name", name)
    except ValueError:
        is_unicode = not any("\ud800" <= character <= "\udfff" for character in name)
        assert not name or "\0" in name or not is_unicode or len(name.encode()) > 4096
    else:
        assert encoded.decode() == name
        assert 0 < len(encoded) <= 4096
        assert b"\0" not in encoded


@given(SPECIAL)
def test_a_remote_becomes_a_path_exactly_or_is_refused(remote: str) -> None:
    try:
        paths = _native.socket_paths(remote)
    except ValueError:
        assert not remote or "\0" in remote or "\ud800" in remote or "\udfff" in remote
    else:
        assert all(path == remote or path.endswith(f"/{remote}") for path in paths)
