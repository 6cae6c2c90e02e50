"""Opus: what goes in comes out, and what is wrong says so."""

import copy
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stagebox.errors import CodecError
from stagebox.layout import SAMPLE_RATE
from stagebox.opus import ENCODE_FRAMES, MAX_PACKET_FRAMES, OpusDecoder, OpusEncoder

Pcm = npt.NDArray[np.float32]
PACKET_FRAMES = 960


def tone(frames: int, channels: int = 2, hz: float = 440.0) -> Pcm:
    """A sine of level 0.5 that differs in every channel."""
    time = np.arange(frames)[:, None] / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hz * (1 + np.arange(channels)) * time)).astype(np.float32)


def through_opus(pcm: Pcm, packet_frames: int, encoder: OpusEncoder, decoder: OpusDecoder) -> Pcm:
    """All of `pcm` encoded and decoded, packet by packet."""
    out = np.zeros((MAX_PACKET_FRAMES, decoder.channels), np.float32)
    heard = []
    for start in range(0, len(pcm), packet_frames):
        packet = encoder.encode(pcm[start : start + packet_frames])
        heard.append(out[: decoder.decode(packet, out)].copy())
    return np.concatenate(heard)


def likeness(sent: Pcm, heard: Pcm) -> float:
    """The greatest correlation of two blocks within the delay a codec may have."""
    middle = slice(len(sent) // 4, len(sent) // 2)
    return max(
        float(
            np.corrcoef(sent[middle].T.ravel(), np.roll(heard, -delay, 0)[middle].T.ravel())[0, 1]
        )
        for delay in range(480)
    )


def silence(frames: int = MAX_PACKET_FRAMES, channels: int = 2) -> Pcm:
    return np.zeros((frames, channels), np.float32)


def packet_of_tone(channels: int = 2, frames: int = PACKET_FRAMES) -> bytes:
    return OpusEncoder(channels, "audio").encode(tone(frames, channels))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_comes_back_at_its_level_and_in_its_channel(channels: int) -> None:
    sent = tone(SAMPLE_RATE // 2, channels)
    encoder = OpusEncoder(channels, "audio", bitrate=128_000)
    heard = through_opus(sent, PACKET_FRAMES, encoder, OpusDecoder(channels))
    assert heard.shape == sent.shape
    middle = heard[len(heard) // 4 : len(heard) // 2]
    assert np.sqrt(np.mean(middle**2, axis=0)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert likeness(sent, heard) > 0.99


@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
def test_every_application_carries_sound(application: Any) -> None:
    sent = tone(SAMPLE_RATE // 4)
    heard = through_opus(sent, PACKET_FRAMES, OpusEncoder(2, application, 96_000), OpusDecoder(2))
    assert likeness(sent, heard) > 0.9


@pytest.mark.parametrize("frames", ENCODE_FRAMES)
def test_every_packet_length_decodes_to_its_own_length(frames: int) -> None:
    assert OpusDecoder(2).decode(packet_of_tone(frames=frames), silence()) == frames


def test_a_higher_bitrate_makes_longer_packets() -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (PACKET_FRAMES, 2)).astype(np.float32)
    low, high = (len(OpusEncoder(2, "audio", rate).encode(noise)) for rate in (16_000, 256_000))
    assert high > 4 * low


def test_the_longest_packet_at_the_highest_bitrate_fits() -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (5760, 2)).astype(np.float32)
    packet = OpusEncoder(2, "audio", 512_000).encode(noise)
    assert len(packet) > 6000
    assert OpusDecoder(2).decode(packet, silence()) == 5760


def test_mono_packets_fill_both_channels_of_a_stereo_decoder() -> None:
    out = silence()
    frames = OpusDecoder(2).decode(packet_of_tone(channels=1), out)
    assert frames == PACKET_FRAMES
    assert np.any(out)
    assert np.array_equal(out[:, 0], out[:, 1])


def test_stereo_packets_fit_a_mono_decoder() -> None:
    out = silence(channels=1)
    assert OpusDecoder(1).decode(packet_of_tone(), out) == PACKET_FRAMES
    assert np.any(out)


def test_decoding_leaves_the_rest_of_out_alone() -> None:
    out = np.full((MAX_PACKET_FRAMES, 2), 9, np.float32)
    frames = OpusDecoder(2).decode(packet_of_tone(), out)
    assert np.all(out[frames:] == 9)


def test_out_may_be_flat_and_so_may_pcm() -> None:
    flat = np.zeros(MAX_PACKET_FRAMES * 2, np.float32)
    packet = OpusEncoder(2, "audio").encode(tone(PACKET_FRAMES).ravel())
    assert packet == packet_of_tone()
    assert OpusDecoder(2).decode(packet, flat) == PACKET_FRAMES
    shaped = silence()
    OpusDecoder(2).decode(packet, shaped)
    assert np.array_equal(flat, shaped.ravel())


def test_out_may_be_exactly_as_long_as_the_packet() -> None:
    assert OpusDecoder(2).decode(packet_of_tone(), silence(PACKET_FRAMES)) == PACKET_FRAMES


def test_one_out_can_be_looked_at_once_for_many_packets() -> None:
    decoder, packet = OpusDecoder(2), packet_of_tone()
    out = silence()
    decode = decoder.into(out)
    del decoder
    gc.collect()
    assert [decode(packet) for _ in range(3)] == [PACKET_FRAMES] * 3
    assert np.any(out)
    with pytest.raises(CodecError):
        decode(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="flat"):
        OpusDecoder(2).into(np.zeros((PACKET_FRAMES, 1), np.float32))


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_packet_may_be_any_bytes_like_object(kind: Any) -> None:
    assert OpusDecoder(2).decode(kind(packet_of_tone()), silence()) == PACKET_FRAMES


def test_read_only_pcm_can_be_encoded() -> None:
    pcm = tone(PACKET_FRAMES)
    pcm.flags.writeable = False
    assert OpusEncoder(2, "audio").encode(pcm) == packet_of_tone()


def test_conceal_fills_out_with_what_was_likely_there() -> None:
    decoder = OpusDecoder(2)
    through_opus(tone(9600), PACKET_FRAMES, OpusEncoder(2, "audio"), decoder)
    out = silence(PACKET_FRAMES)
    assert decoder.conceal(out) == PACKET_FRAMES
    assert np.abs(out[:240]).max() > 0.1


@pytest.mark.parametrize("frames", [120, 5760])
def test_conceal_takes_the_shortest_and_the_longest_loss(frames: int) -> None:
    assert OpusDecoder(2).conceal(silence(frames)) == frames


@pytest.mark.parametrize("frames", [1, 119, 121, 5880])
def test_conceal_refuses_a_length_opus_does_not_have(frames: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 120 frames, up to 5760, not {frames}"):
        OpusDecoder(2).conceal(silence(frames))


def test_reset_makes_a_decoder_as_good_as_new() -> None:
    packet, fresh, used = packet_of_tone(), silence(), silence()
    OpusDecoder(2).decode(packet, fresh)
    decoder = OpusDecoder(2)
    decoder.decode(packet, used)
    decoder.decode(packet, used)
    assert not np.array_equal(used, fresh)
    decoder.reset()
    decoder.decode(packet, used)
    assert np.array_equal(used, fresh)


def test_junk_is_refused_in_the_words_of_libopus_and_the_next_packet_decodes() -> None:
    decoder = OpusDecoder(2)
    with pytest.raises(CodecError, match=r"could not decode a packet of 3 bytes.*corrupted stream"):
        decoder.decode(b"\xff\xff\xff", silence())
    assert decoder.decode(packet_of_tone(), silence()) == PACKET_FRAMES


def test_an_out_that_is_too_small_is_refused_in_the_words_of_libopus() -> None:
    with pytest.raises(CodecError, match=r"into 959 frames: buffer too small"):
        OpusDecoder(2).decode(packet_of_tone(), silence(PACKET_FRAMES - 1))


@pytest.mark.parametrize("empty", [b"", bytearray()])
def test_an_empty_packet_is_refused_and_points_to_conceal(empty: Any) -> None:
    with pytest.raises(ValueError, match=r"must not be empty: use conceal\(\)"):
        OpusDecoder(2).decode(empty, silence())


class Liar(bytes):
    """Bytes that claim to be longer than they are."""

    def __len__(self) -> int:
        return super().__len__() + 1_000_000


def test_libopus_reads_no_more_of_a_packet_than_there_is() -> None:
    honest, other = silence(), silence()
    OpusDecoder(2).decode(packet_of_tone(), honest)
    OpusDecoder(2).decode(Liar(packet_of_tone()), other)
    assert np.array_equal(honest, other)


@pytest.mark.parametrize("packet", [None, 5, "text", [1, 2]])
def test_a_packet_that_is_not_bytes_like_is_a_type_error(packet: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        OpusDecoder(2).decode(packet, silence())


WRONG_PCM: list[tuple[Any, type[Exception], str]] = [
    (bytearray(7680), TypeError, "must be a numpy array of float32, not bytearray"),
    (np.zeros((960, 2)), TypeError, "must be a numpy array of float32, not float64"),
    (np.zeros((960, 2), ">f4"), TypeError, "must be a numpy array of float32, not >f4"),
    (np.zeros((960, 3), np.float32), ValueError, r"shape \(frames, 2\).* not shape \(960, 3\)"),
    (np.zeros((960, 2, 1), np.float32), ValueError, r"not shape \(960, 2, 1\)"),
    (np.zeros(961, np.float32), ValueError, r"not shape \(961,\)"),
    (np.zeros((), np.float32), ValueError, r"not shape \(\)"),
    (np.zeros((0, 2), np.float32), ValueError, "at least one frame"),
    (np.zeros((2, 960), np.float32).T, ValueError, "must be C-contiguous"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG_PCM)
def test_pcm_of_the_wrong_kind_is_refused_at_the_door(
    wrong: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        OpusDecoder(2).decode(packet_of_tone(), wrong)
    with pytest.raises(error, match=message):
        OpusDecoder(2).conceal(wrong)
    with pytest.raises(error, match=message):
        OpusEncoder(2).encode(wrong)


def test_a_read_only_out_is_refused() -> None:
    out = silence()
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writable"):
        OpusDecoder(2).decode(packet_of_tone(), out)


@pytest.mark.parametrize("frames", [1, 100, 961, 5761])
def test_a_block_no_packet_can_hold_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"pcm must have one of .* frames, not {frames}"):
        OpusEncoder(2).encode(silence(frames))


@pytest.mark.parametrize("channels", [0, 3, -1])
def test_opus_has_one_or_two_channels(channels: Any) -> None:
    for make in (OpusDecoder, OpusEncoder):
        with pytest.raises(ValueError, match=r"channels must be one of \[1, 2\]"):
            make(channels)


def test_an_unknown_application_is_refused() -> None:
    wrong: Any = "music"
    with pytest.raises(ValueError, match=r"voip.*audio.*lowdelay.*not 'music'"):
        OpusEncoder(2, wrong)


@pytest.mark.parametrize("bitrate", [0, -1, 499, 512_001])
def test_a_bitrate_opus_does_not_have_is_refused(bitrate: int) -> None:
    with pytest.raises(
        ValueError, match=f"bitrate must be 500 to 512000 bits/s, or None, not {bitrate}"
    ):
        OpusEncoder(2, "voip", bitrate)


@pytest.mark.parametrize("codec", [OpusDecoder, OpusEncoder])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_codec_cannot_be_copied_or_pickled(codec: Any, duplicate: Any) -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(codec(2))


def test_the_state_in_libopus_goes_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    destroyed: list[int] = []
    monkeypatch.setattr(OpusDecoder(2)._lib, "decoder_destroy", destroyed.append)
    decoder = OpusDecoder(2)
    state, gone = decoder._state, weakref.ref(decoder)
    del decoder
    gc.collect()
    assert gone() is None
    assert destroyed == [state]


def test_a_refused_control_is_a_codec_error() -> None:
    decoder = OpusDecoder(2)
    with pytest.raises(CodecError, match="could not try: request not implemented"):
        decoder._lib.control(decoder._lib.decoder_ctl, decoder._state, "try", 9999)


def test_a_state_libopus_cannot_make_is_a_codec_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stagebox.opus.SAMPLE_RATE", 44_100)
    with pytest.raises(CodecError, match="make an encoder or decoder: invalid argument"):
        OpusDecoder(2)


def test_decoders_of_several_threads_do_not_disturb_one_another() -> None:
    sent = tone(SAMPLE_RATE // 2)
    expected = through_opus(sent, 240, OpusEncoder(2, "audio"), OpusDecoder(2))
    heard: list[Pcm] = []

    def work() -> None:
        heard.append(through_opus(sent, 240, OpusEncoder(2, "audio"), OpusDecoder(2)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 4
    assert all(np.array_equal(expected, one) for one in heard)


def test_opuslib_keeps_its_own_types() -> None:
    program = """
        import opuslib
        before = opuslib.api.decoder.libopus_decode_float.argtypes
        from stagebox.opus import OpusDecoder
        OpusDecoder(2)
        assert opuslib.api.decoder.libopus_decode_float.argtypes is before
        opuslib.Decoder(48000, 2)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def said_without(missing: str) -> str:
    """What a decoder says where something is missing, and that importing says nothing."""
    program = f"""
        import ctypes.util
        import sys
        {missing}
        from stagebox.errors import CodecError
        from stagebox.opus import OpusDecoder
        try:
            OpusDecoder(2)
        except CodecError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_missing_libopus_says_what_to_install() -> None:
    said = said_without("ctypes.util.find_library = lambda name: None")
    assert "libopus0 on Debian" in said
    assert "opus on Fedora or Arch" in said


def test_a_missing_opuslib_says_what_to_install() -> None:
    assert "pip install opuslib" in said_without("sys.modules['opuslib'] = None")
