"""Every parser meets what nobody would write: it reads it or refuses it in its own words."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stagebox import PumpTuning, StageboxError, _native, arguments, open_virtual_mic
from stagebox.cli import audio_file, entry, options
from stagebox.layout import SAMPLE_RATE
from stagebox.testing import PrivateGraph

if TYPE_CHECKING:
    from collections.abc import Callable

few = settings(max_examples=50, deadline=None)

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.lists(st.integers(), max_size=3),
)

# --- arguments -----------------------------------------------------------------------------------


@few
@given(value=ANYTHING)
@pytest.mark.parametrize(
    "check",
    [
        lambda value: arguments.text("name", value),
        lambda value: arguments.whole("number", value),
        lambda value: arguments.channel_count(value, (1, 2)),
        arguments.quantum,
        lambda value: arguments.seconds("timeout", value),
        lambda value: PumpTuning(value, 60, 1, 0.6, 5),
        lambda value: open_virtual_mic(value, remote="/nonexistent/pipewire-0"),
        lambda value: open_virtual_mic(name=value, remote="/nonexistent/pipewire-0"),
        lambda value: open_virtual_mic(quantum_frames=value, remote="/nonexistent/pipewire-0"),
    ],
)
def test_an_argument_is_taken_or_refused_at_the_door(
    check: Callable[[Any], object], value: Any
) -> None:
    with contextlib.suppress(ValueError, TypeError, StageboxError):
        check(value)


@few
@given(text=st.one_of(st.floats().map(str), st.integers().map(str), st.text(max_size=20)))
@example("1e308")
def test_a_length_is_one_frame_or_more_and_finite(text: str) -> None:
    try:
        seconds = options.seconds(text)
    except (ValueError, argparse.ArgumentTypeError):  # what argparse makes wrong usage of
        return
    assert round(seconds * SAMPLE_RATE) >= 1


WORDS = st.sampled_from(
    ["record", "mic", "demo", "-", "--", "--seconds", "--channels", "--name", "--loop"]
)


@few
@given(line=st.lists(WORDS | st.floats().map(str) | st.text(max_size=10), max_size=6))
def test_a_command_line_is_read_or_is_wrong_usage(line: list[str]) -> None:
    said = io.StringIO()
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        entry._parser().parse_args(line)


# --- where the daemon is -------------------------------------------------------------------------

# What an environment can hold: any bytes but NUL.
VARIABLES = st.binary(max_size=200).map(lambda data: data.replace(b"\0", b"/")) | st.none()


@few
@given(
    remote=st.none() | st.text(max_size=30), variables=st.tuples(VARIABLES, VARIABLES, VARIABLES)
)
def test_a_daemon_is_looked_for_where_any_environment_says(
    remote: str | None, variables: tuple[bytes | None, bytes | None, bytes | None]
) -> None:
    names = (b"PIPEWIRE_REMOTE", b"PIPEWIRE_RUNTIME_DIR", b"XDG_RUNTIME_DIR")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, variables, strict=True):
            if value is None:
                patch.delenv(name.decode(), raising=False)
            else:
                patch.setenv(name.decode(), os.fsdecode(value))
        if remote is not None and (not remote or "\0" in remote):
            with pytest.raises(ValueError, match="empty or contain a NUL"):
                _native.socket_paths(remote)
            return
        paths = _native.socket_paths(remote)
    assert 1 <= len(paths) <= 2
    assert all(path and "\0" not in path for path in paths)


@few
@given(remote=st.text(min_size=1, max_size=200))
def test_a_daemon_that_cannot_be_is_none(remote: str) -> None:
    with pytest.raises((ValueError, StageboxError)):
        open_virtual_mic(remote="/nonexistent/" + remote)


# --- sound files ---------------------------------------------------------------------------------

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
]


def file_of(form: str, subtype: str, rate_hz: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (400, 2)).astype(np.float32)
    soundfile.write(file, noise, rate_hz, subtype, format=form)
    return file.getvalue()


FILES = [file_of(*form, rate_hz) for form in FORMATS for rate_hz in (48_000, 8_000)]


@st.composite
def spoilt_files(draw: st.DrawFn) -> bytes:
    """A sound file cut short and with some bytes changed, mostly in its header."""
    data = bytearray(draw(st.sampled_from(FILES)))
    places = st.integers(0, 63) | st.integers(0, len(data) - 1)
    for place, byte in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        data[place] = byte
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


@settings(max_examples=60, deadline=None)
@given(data=spoilt_files() | st.binary(max_size=100), channels=st.sampled_from([1, 2]))
def test_a_sound_file_is_played_or_refused_in_one_line(data: bytes, channels: int) -> None:
    with (
        tempfile.NamedTemporaryFile() as file,
        contextlib.suppress(ValueError),
    ):
        file.write(data)
        file.flush()
        _play(Path(file.name), channels)


def _play(path: Path, channels: int) -> None:
    with audio_file.Reader(path, channels) as reader:
        assert reader.seconds > 0
        played = 0
        for block in reader.blocks(loop=True):  # ends, or plays on
            assert block.dtype == np.float32
            assert block.shape[1:] == (channels,)
            played += len(block)
            if played > 1000:
                break


# --- what pw-dump says ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries(
    {"id": st.integers()},
    optional={
        "info": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "props": st.none()
                | st.fixed_dictionaries(
                    {}, optional={"node.name": JSON, "media.class": st.text(max_size=5)}
                )
            },
        ),
        "metadata": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "key": st.sampled_from(["default.audio.sink", "other"]),
                    "value": JSON | st.fixed_dictionaries({"name": st.text(max_size=5)}),
                },
            ),
            max_size=3,
        ),
    },
)


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """What pw-dump prints, perhaps not to its end, of what any client may have put there."""
    printed = json.dumps(draw(st.lists(OBJECTS, max_size=3))).encode()
    return printed[: draw(st.none() | st.integers(0, len(printed)))]


@settings(max_examples=60, deadline=None)
@given(dump=dumps())
@example(b'[{"id": 1, "info": {"props": {"node.name": "\xff"}}}]')
@example(b'[{"metadata": [{"key": "default.audio.sink", "value": "sink"}]}]')
def test_whatever_pw_dump_prints_is_read_as_what_it_holds(dump: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        graph = PrivateGraph()
        patch.setattr(graph, "_output", lambda *_, **__: dump)
        assert isinstance(graph.dump(), list)
        graph.node_names()
        graph.default("sink")
        with contextlib.suppress(KeyError):
            graph.properties("sink")
