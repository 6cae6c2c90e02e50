"""Audio files, through soundfile: written as they are recorded, read as a microphone needs them."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import soundfile

from stagebox import SAMPLE_RATE
from stagebox.layout import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_SUBTYPES: Final = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS"}

_WAV_BYTES: Final = (1 << 32) - (1 << 16)
"""A wav file counts its bytes in 32 bits; some are the header's."""

_VORBIS_ORDER: Final = {6: (0, 2, 1, 4, 5, 3), 8: (0, 2, 1, 6, 7, 4, 5, 3)}
"""Channels -> which of ours is each of Vorbis's: FL FC FR [SL SR] RL RR LFE (Vorbis I, 4.3.9)."""

_BLOCK_FRAMES: Final = 1 << 14

_RATES_HZ: Final = range(1000, 1_000_001)
"""Below it nothing is sound, and resampling makes gigabytes of a block: 48 000 frames of each.
Above it nothing is either, and a loop of a short file would take for ever to make a frame."""

# Half of the power of what is in the middle or behind goes to each side; LFE to neither.
_HALF_POWER: Final = math.sqrt(0.5)
_TO_LEFT: Final = {"FL": 1.0, "FC": _HALF_POWER, "RL": _HALF_POWER, "SL": _HALF_POWER}
_TO_RIGHT: Final = {"FR": 1.0, "FC": _HALF_POWER, "RR": _HALF_POWER, "SR": _HALF_POWER}


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn libsndfile's errors into ValueError, with its words."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error)) from error


def check_writable(path: Path) -> None:
    """Raise ValueError or OSError for a file a `Writer` could not write; touch nothing."""
    if path.suffix.lower() not in _SUBTYPES:
        known = ", ".join(_SUBTYPES)
        raise ValueError(f"{path}: the extension says the format: use one of {known}")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    place = path if path.exists() else path.parent
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def length(path: Path) -> int:
    """Return the frames in a file that a `Writer` has closed."""
    try:
        return int(soundfile.info(path).frames)
    except soundfile.LibsndfileError:
        return 0  # flac begins with its first frame


class Writer:
    """A new audio file: wav in 32-bit float, flac in 24 bits, ogg in Vorbis, by extension.

    A context manager; the file is valid from the end of the block on, however it ends.
    """

    def __init__(self, path: Path, channels: int) -> None:
        """Create or replace the file; ValueError or OSError when that cannot be."""
        check_writable(path)
        extension = path.suffix.lower()
        # Plain wav does not say where more than two channels belong.
        form = "WAVEX" if extension == ".wav" and channels > 2 else extension[1:].upper()
        self._path = path
        self._order = _VORBIS_ORDER.get(channels) if extension == ".ogg" else None
        self._room = _WAV_BYTES // (4 * channels) if extension == ".wav" else None
        with _plain_errors():
            self._file = soundfile.SoundFile(
                path, "w", SAMPLE_RATE, channels, _SUBTYPES[extension], format=form
            )

    def write(self, pcm: NDArray[np.float32]) -> None:
        """Append frames; OSError when the disk or the format is full."""
        if self._room is not None:
            self._room -= len(pcm)
            if self._room < 0:
                raise OSError(f"{self._path}: wav ends at 4 GB; a flac file goes on")
        try:
            self._file.write(pcm if self._order is None else pcm[:, self._order])
        except soundfile.LibsndfileError as error:
            raise OSError(f"{self._path}: {error}") from error

    def __enter__(self) -> Self:
        """Return the writer, which is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


class Reader:
    """An audio file of any format, rate and channel count, as 48 kHz PCM in 1 or 2 channels."""

    def __init__(self, path: Path, channels: int) -> None:
        """Open the file; ValueError or OSError when it is not there, not audio, or empty."""
        with path.open("rb"):
            pass  # for the system's own words when it cannot be read
        if path.suffix.lower() == ".raw":  # soundfile would ask us what is in it
            raise ValueError(f"{path}: the file does not say what it holds; pipe samples into -")
        with _plain_errors():
            self._file = soundfile.SoundFile(path)
        if not self._file.frames:
            self._file.close()
            raise ValueError(f"{path}: there is no sound in it")
        if self._file.samplerate not in _RATES_HZ:
            self._file.close()
            raise ValueError(f"{path}: {self._file.samplerate} Hz is no rate of a sound")
        self._channels = channels

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return float(self._file.frames / self._file.samplerate)

    def blocks(self, *, loop: bool = False) -> Iterator[NDArray[np.float32]]:
        """Yield all of it in blocks of some frames; again and again to `loop`.

        Raises ValueError where the file breaks off, and for a loop of nothing.
        """
        while True:
            frames = 0
            for block in self._resampled():
                frames += len(block)
                yield block
            if not loop:
                return
            if not frames:
                raise ValueError(f"{self._file.name}: there is no sound in it")
            with _plain_errors():
                self._file.seek(0)

    def _resampled(self) -> Iterator[NDArray[np.float32]]:
        if self._file.samplerate == SAMPLE_RATE:
            yield from self._mixed()
            return
        import soxr  # noqa: PLC0415 - most files do without

        stream = soxr.ResampleStream(self._file.samplerate, SAMPLE_RATE, self._channels)
        for block in self._mixed():
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.empty((0, self._channels), np.float32), last=True)

    def _mixed(self) -> Iterator[NDArray[np.float32]]:
        with _plain_errors():
            for block in self._file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
                yield remixed(self._ordered(block), self._channels)

    def _ordered(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        order = _VORBIS_ORDER.get(pcm.shape[1]) if self._file.subtype == "VORBIS" else None
        return pcm if order is None else pcm[:, np.argsort(order)]

    def __enter__(self) -> Self:
        """Return the reader, which is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


def remixed(pcm: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return C-contiguous `pcm` in 1 or 2 `channels`, never louder than its loudest channel."""
    if pcm.shape[1] == channels:
        return np.ascontiguousarray(pcm)
    if pcm.shape[1] > 2:
        pcm = pcm @ _downmix(pcm.shape[1])
    if channels == 1:
        return np.ascontiguousarray(pcm.mean(axis=1, keepdims=True, dtype=np.float32))
    return np.ascontiguousarray(np.broadcast_to(pcm, (len(pcm), channels)))


def _downmix(channels: int) -> NDArray[np.float32]:
    """What of each channel goes left and right; of an unknown layout, all alike to both."""
    positions = POSITIONS.get(channels)
    if positions is None:
        return np.full((channels, 2), 1 / channels, np.float32)
    sides = [[side.get(position, 0.0) for side in (_TO_LEFT, _TO_RIGHT)] for position in positions]
    matrix = np.array(sides, np.float32)
    return np.asarray(matrix / matrix.sum(axis=0), np.float32)
