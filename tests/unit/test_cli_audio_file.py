"""Audio files in and out of the commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from stagebox import SAMPLE_RATE
from stagebox.cli import audio_file, record
from stagebox.cli.audio_file import Reader, Writer, check_writable, remixed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def sine(hz: float, seconds: float = 0.5, rate_hz: int = SAMPLE_RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def steps(channels: int, hz: float = 200) -> NDArray[np.float32]:
    """A slow wave on every channel, each at a level of its own."""
    return (sine(hz)[:, np.newaxis] * np.arange(1, channels + 1) / channels).astype(np.float32)


def levels(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.abs(pcm).max(axis=0), np.float32)


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize(
    ("extension", "subtype", "step"),
    [("wav", "FLOAT", 0), ("flac", "PCM_24", 2**-23)],
)
def test_what_is_written_is_read_back(
    tmp_path: Path, extension: str, subtype: str, step: float, channels: int
) -> None:
    path = tmp_path / f"sound.{extension}"
    pcm = steps(channels)
    with Writer(path, channels) as writer:
        writer.write(pcm[:1000])
        writer.write(pcm[1000:1000])
        writer.write(pcm[1000:])
    assert soundfile.info(path).subtype == subtype
    back = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert len(back) == len(pcm)
    assert np.abs(back - pcm).max() <= step


@pytest.mark.parametrize(
    ("channels", "order"),
    [(1, [0]), (2, [0, 1]), (6, [0, 2, 1, 4, 5, 3]), (8, [0, 2, 1, 6, 7, 4, 5, 3])],
)
def test_vorbis_has_its_own_order_of_channels(
    tmp_path: Path, channels: int, order: list[int]
) -> None:
    path = tmp_path / "sound.ogg"
    pcm = steps(channels, hz=50)  # what the LFE's encoder lets through
    with Writer(path, channels) as writer:
        writer.write(pcm)
    assert soundfile.info(path).subtype == "VORBIS"
    back = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert len(back) == len(pcm)
    middle = slice(5000, 19_000)
    assert np.argsort(levels(back[middle])).tolist() == np.argsort(order).tolist()


def test_an_extension_in_capitals_is_one_too(tmp_path: Path) -> None:
    with Writer(tmp_path / "SOUND.WAV", 2) as writer:
        writer.write(steps(2))
    assert soundfile.info(tmp_path / "SOUND.WAV").format == "WAV"


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("sound.mp3", ValueError, "use one of .wav, .flac, .ogg"),
        ("sound", ValueError, "use one of .wav, .flac, .ogg"),
        ("nowhere/sound.wav", FileNotFoundError, "nowhere"),
        ("directory.wav", IsADirectoryError, "directory.wav"),
    ],
)
def test_what_cannot_be_written_is_known_before(
    tmp_path: Path, name: str, error: type[Exception], text: str
) -> None:
    (tmp_path / "directory.wav").mkdir()
    with pytest.raises(error, match=text):
        check_writable(tmp_path / name)


def test_a_place_without_permission_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "sound.wav")


def test_a_wav_file_is_never_longer_than_its_header_can_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_file, "_WAV_BYTES", 8000)
    path = tmp_path / "full.wav"
    with Writer(path, 2) as writer:
        writer.write(steps(2)[:1000])
        with pytest.raises(OSError, match="4 GB"):
            writer.write(steps(2)[:1])
    assert soundfile.info(path).frames == 1000


def test_a_full_disk_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise soundfile.LibsndfileError(2, "")

    with Writer(tmp_path / "sound.wav", 2) as writer:
        monkeypatch.setattr(soundfile.SoundFile, "write", full)
        with pytest.raises(OSError, match=r"sound\.wav"):
            writer.write(steps(2))


class Interrupted(Writer):
    """A writer with Ctrl-C at the worst moment: the file has the frames, nobody counted them."""

    def write(self, pcm: NDArray[np.float32]) -> None:
        super().write(pcm)
        raise KeyboardInterrupt


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg"])
def test_an_interrupted_recording_says_what_the_file_holds(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"desktop{extension}"
    chunk = SimpleNamespace(pcm=steps(2)[:1024])
    capture: Any = SimpleNamespace(
        channels=2, next_chunk=lambda _timeout: chunk, stats=SimpleNamespace(lost=0)
    )
    monkeypatch.setattr(audio_file, "Writer", Interrupted)
    recording = record._Recording(capture, str(path), None)
    with pytest.raises(KeyboardInterrupt):
        recording.run()
    assert soundfile.info(path).frames == 1024
    assert "(1024 frames, 0 lost)" in recording.summary()


# --- reading -------------------------------------------------------------------------------------


def read(path: Path, channels: int) -> NDArray[np.float32]:
    with Reader(path, channels) as reader:
        return np.concatenate(list(reader.blocks()))


def test_48_khz_stereo_comes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, steps(2), SAMPLE_RATE, "FLOAT")
    assert np.array_equal(read(path, 2), steps(2))


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 96_000])
def test_other_rates_are_resampled(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, sine(440, 1, rate_hz), rate_hz, "FLOAT")
    pcm = read(path, 1)
    assert pcm.dtype == np.float32
    assert abs(len(pcm) - SAMPLE_RATE) <= 2
    middle = slice(10_000, 38_000)
    assert np.abs(pcm[middle, 0] - sine(440, 1)[middle]).max() < 0.01


def test_a_loop_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, steps(2)[:100], SAMPLE_RATE, "FLOAT")
    with Reader(path, 2) as reader:
        blocks = reader.blocks(loop=True)
        twice = np.concatenate([next(blocks), next(blocks)])
        assert reader.seconds == 100 / SAMPLE_RATE
    assert np.array_equal(twice, np.tile(steps(2)[:100], (2, 1)))


def test_a_multichannel_vorbis_file_is_mixed_by_its_own_order(tmp_path: Path) -> None:
    centre_only = np.zeros((SAMPLE_RATE // 2, 6), np.float32)
    centre_only[:, 2] = sine(200)
    with Writer(tmp_path / "centre.ogg", 6) as writer:
        writer.write(centre_only)
    left, right = levels(read(tmp_path / "centre.ogg", 2))
    assert left == pytest.approx(right, abs=0.01)
    assert left > 0.1


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    soundfile.write(tmp_path / "empty.wav", steps(2)[:0], SAMPLE_RATE)
    with pytest.raises(ValueError, match=r"text\.wav"):
        Reader(tmp_path / "text.wav", 2)
    with pytest.raises(ValueError, match="no sound"):
        Reader(tmp_path / "empty.wav", 2)
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "missing.wav", 2)


def test_a_file_that_does_not_say_what_it_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sound.raw").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"sound\.raw: the file does not say what it holds"):
        Reader(tmp_path / "sound.raw", 2)


HIGHEST_RATE_HZ = 1_000_000


def test_a_loop_of_less_than_a_frame_ends(tmp_path: Path) -> None:
    path = tmp_path / "instant.wav"
    soundfile.write(path, steps(2)[:10], HIGHEST_RATE_HZ)
    with Reader(path, 2) as reader, pytest.raises(ValueError, match="no sound"):
        list(reader.blocks(loop=True))


@pytest.mark.parametrize("rate_hz", [1, HIGHEST_RATE_HZ + 1, 2_000_000_000])
def test_a_rate_that_resampling_would_take_for_ever_or_gigabytes_for_is_refused(
    tmp_path: Path, rate_hz: int
) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, steps(2), rate_hz)
    with pytest.raises(ValueError, match=rf"odd\.wav: {rate_hz} Hz is no rate of a sound"):
        Reader(path, 2)


def test_the_lowest_rate_takes_no_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "slow.wav"
    soundfile.write(path, steps(2), 1000)
    with Reader(path, 2) as reader:
        assert max(len(block) for block in reader.blocks()) < 2**21


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("wanted", [1, 2])
def test_full_scale_on_every_channel_stays_full_scale(channels: int, wanted: int) -> None:
    mixed = remixed(np.ones((10, channels), np.float32), wanted)
    assert mixed.shape == (10, wanted)
    assert mixed.dtype == np.float32
    assert mixed.flags.c_contiguous
    assert np.allclose(mixed, 1)


def test_sides_stay_on_their_sides() -> None:
    left, right = np.eye(6, dtype=np.float32)[[0, 1]]
    assert remixed(left[np.newaxis], 2)[0, 1] == 0
    assert remixed(right[np.newaxis], 2)[0, 0] == 0
