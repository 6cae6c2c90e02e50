"""Bad arguments are refused at the door, before anything opens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stagebox
from stagebox import _native, open_audio_capture, open_virtual_mic

NOWHERE = "/nonexistent/pipewire-0"


@pytest.mark.parametrize("channels", [0, 3, 7, 9, -1])
def test_a_capture_has_1_2_6_or_8_channels(channels: Any) -> None:
    with pytest.raises(ValueError, match=r"channels must be one of \[1, 2, 6, 8\], not"):
        open_audio_capture(channels, remote=NOWHERE)


@pytest.mark.parametrize("channels", [0, 3, 6])
def test_a_microphone_has_1_or_2_channels(channels: Any) -> None:
    with pytest.raises(ValueError, match=r"channels must be one of \[1, 2\], not"):
        open_virtual_mic(channels, remote=NOWHERE)


@pytest.mark.parametrize("opener", [open_audio_capture, open_virtual_mic])
@pytest.mark.parametrize("channels", [None, "2", 2.0, True, [2]])
def test_channels_are_a_whole_number(opener: Any, channels: Any) -> None:
    with pytest.raises(TypeError, match="channels must be an int, not"):
        opener(channels, remote=NOWHERE)


def test_numpys_whole_numbers_and_paths_are_taken() -> None:
    with pytest.raises(stagebox.PipeWireUnavailable):
        open_audio_capture(np.int64(2), quantum_frames=np.int32(256), remote=Path(NOWHERE))  # type: ignore[arg-type]  # they only have __index__


@pytest.mark.parametrize("opener", [open_audio_capture, open_virtual_mic])
@pytest.mark.parametrize(
    ("quantum", "error"), [(3, ValueError), (8193, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_a_quantum_is_4_to_8192_frames(opener: Any, quantum: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="quantum_frames must be"):
        opener(quantum_frames=quantum, remote=NOWHERE)


@pytest.mark.parametrize("argument", ["name", "description"])
@pytest.mark.parametrize(
    ("value", "error"),
    [("", ValueError), ("a\0b", ValueError), ("\ud800", ValueError), (b"bytes", TypeError)],
)
def test_a_name_is_a_string_without_nul(argument: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{argument} must"):
        open_virtual_mic(remote=NOWHERE, **{argument: value})


def test_a_target_is_a_name() -> None:
    with pytest.raises(ValueError, match="target must not be empty"):
        open_audio_capture(target="", remote=NOWHERE)


def test_a_remote_holds_no_nul() -> None:
    with pytest.raises(ValueError, match="remote must not be empty or contain a NUL"):
        open_audio_capture(remote="a\0b")


@pytest.mark.parametrize("timeout", ["1", None, True])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be seconds, not"):
        _native.Deadline(timeout)


@pytest.mark.parametrize("timeout", [-1, math.nan, np.float32(-1)])
def test_a_timeout_is_0_or_more(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be 0 or more seconds"):
        _native.Deadline(timeout)


def test_a_timeout_may_be_for_ever() -> None:
    assert not _native.Deadline(math.inf).passed


@pytest.mark.parametrize("maker", [stagebox.OpusDecoder, stagebox.OpusEncoder])
@pytest.mark.parametrize(
    ("channels", "error"), [(2.0, TypeError), (True, TypeError), (3, ValueError)]
)
def test_opus_has_1_or_2_channels(maker: Any, channels: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="channels must be"):
        maker(channels)


@pytest.mark.parametrize(
    ("argument", "value"), [("opener", None), ("tuning", None), ("channels", 2.0)]
)
def test_a_pump_does_not_start_with_a_wrong(argument: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{argument} must be"):
        stagebox.MicPump.start(**{"opener": open_virtual_mic, argument: value})


def test_the_system_daemons_path_is_no_reason_to_set_xdg_runtime_dir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    with pytest.raises(stagebox.PipeWireUnavailable, match="start it"):
        open_virtual_mic(remote="/run/pipewire/no-such-daemon")


def test_the_layouts_are_gamestreams() -> None:
    assert stagebox.layout.POSITIONS[8] == ("FL", "FR", "FC", "LFE", "RL", "RR", "SL", "SR")


def test_the_constants_are_what_the_specification_says() -> None:
    assert stagebox.SAMPLE_RATE == 48_000
    assert stagebox.CHANNELS == 2
    assert stagebox.MIC_CHANNELS == 2
    assert stagebox.MIC_QUEUE_CAP == 64
    assert stagebox.PumpTuning(2, 60, 1, 0.6, 5) == stagebox.PUMP_TUNING


def test_without_a_runtime_directory_the_message_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(stagebox.PipeWireUnavailable, match="XDG_RUNTIME_DIR is not set"):
        open_virtual_mic()


def test_a_chunk_is_as_long_as_its_frames_and_falsy_when_empty() -> None:
    assert len(stagebox.Chunk(np.zeros((3, 2), np.float32), 0, 0)) == 3
    assert not stagebox.Chunk(np.zeros((0, 2), np.float32), 0, 0)
