"""The two ways of the demo, each from an application's end to ours or back, measured."""

from __future__ import annotations

import concurrent.futures
import functools
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from stagebox import SAMPLE_RATE, OpusEncoder, open_audio_capture, open_virtual_mic

from . import compare, programs, sounds
from .uplink import PACKET_FRAMES, Uplink, in_packets, open_uplink, paced, wait_until

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stagebox import AudioCapturer

QUANTUM_FRAMES: Final = 1024
"""pw-play's main thread is not real-time: on a busy machine it misses many a short quantum."""

_MIC: Final = "stagebox-demo-mic"
_CHANNELS: Final = 2

# What connecting and the first packets do to a ring's depth is over before the voice begins.
_LEAD_PACKETS: Final = 25
_TAIL_PACKETS: Final = 10

# pw-play's last, partial quantum never reaches the sink: let that be silence.
_PLAYED_TAIL_S: Final = 0.1

_PIECE_FRAMES: Final = SAMPLE_RATE // 4

_START_S: Final = 3.0
_AFTER_S: Final = 0.2
_WAIT_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """The PipeWire the demo runs on, and the wish to end it early.

    Attributes:
        env: the environment of programs that use it.
        remote: for `remote=`.
        stop: set when nobody waits for the result any more.
    """

    env: Mapping[str, str]
    remote: str | None
    stop: threading.Event


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of one way.

    Attributes:
        sent: what went in, `(frames, channels)`.
        received: all that was recorded at the other end, as many channels.
        match: where `sent` was found in it.
        gap_frames: silence in it that came of the player being late, left out of the match.
        lost_frames: what stagebox itself counted as lost.
        delay_ms: median; nan when nothing arrived.
    """

    sent: NDArray[np.float32]
    received: NDArray[np.float32]
    match: compare.Match
    gap_frames: int
    lost_frames: int
    delay_ms: float


def both(place: Place, seconds: float) -> tuple[Outcome, Outcome]:
    """Run desktop out and voice in at the same time."""
    music, speech = sounds.music(seconds), sounds.speech(seconds)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        try:
            desktop = pool.submit(_desktop_out, place, music)
            voice = pool.submit(_voice_in, place, speech)
            concurrent.futures.wait((desktop, voice), return_when="FIRST_EXCEPTION")
        finally:
            # All is done, or one failed, or Ctrl-C: in any case nothing is left to wait for.
            place.stop.set()
        return desktop.result(), voice.result()


def _desktop_out(place: Place, sent: NDArray[np.float32]) -> Outcome:
    with (
        open_audio_capture(
            _CHANNELS, quantum_frames=QUANTUM_FRAMES, remote=place.remote
        ) as capture,
        tempfile.TemporaryDirectory(prefix="stagebox-demo-") as directory,
    ):
        path = str(Path(directory) / "music.wav")
        tail = np.zeros((round(_PLAYED_TAIL_S * SAMPLE_RATE), _CHANNELS), np.float32)
        soundfile.write(path, np.concatenate([sent, tail]), SAMPLE_RATE, "FLOAT")
        capture.next_chunk(_START_S)  # a sink that runs gives silence: from here on we hear it
        blocks, ages_ns = _captured_while_playing(place, capture, path, len(sent) / SAMPLE_RATE)
        received = np.concatenate([np.empty((0, _CHANNELS), np.float32), *blocks])
        lost_frames = capture.stats.lost
    heard = compare.without_gaps(received)
    return Outcome(
        sent,
        received,
        compare.match(sent, heard),
        len(received) - len(heard),
        lost_frames,
        _median_ms(ages_ns),
    )


def _captured_while_playing(
    place: Place, capture: AudioCapturer, path: str, seconds: float
) -> tuple[list[NDArray[np.float32]], list[int]]:
    """Return what was captured, and how old each chunk's first frame was when we got it."""
    blocks, ages_ns = [], []
    with programs.playing(path, place.env) as player:
        end = time.monotonic() + seconds + _START_S
        while time.monotonic() < end and not place.stop.is_set():
            chunk = capture.next_chunk(_WAIT_S)
            if chunk:
                ages_ns.append(time.monotonic_ns() - chunk.time_ns)
                blocks.append(chunk.pcm)
            if player.poll() is not None:
                end = min(end, time.monotonic() + _AFTER_S)
    return blocks, ages_ns


def _voice_in(place: Place, voice: NDArray[np.float32]) -> Outcome:
    open_mic = functools.partial(
        open_virtual_mic,
        name=_MIC,
        description="Stagebox demo",
        make_default=False,  # a conversation that is going on keeps its microphone
        quantum_frames=QUANTUM_FRAMES,
        remote=place.remote,
    )
    packets = _encoded(voice)
    with (
        open_uplink(open_mic, _CHANNELS) as uplink,
        programs.recording(_MIC, _CHANNELS, QUANTUM_FRAMES, place.env) as recorder,
    ):
        wait_until(lambda: uplink.mic.quantum or place.stop.is_set(), _START_S)
        sent_ns, lost_frames = _sent(place, uplink, packets)
        recorder.end()
    sent = np.repeat(voice[:, np.newaxis], _CHANNELS, axis=1)
    received = recorder.pcm()
    match = compare.match_pieces(sent, received, _PIECE_FRAMES)
    firsts = PACKET_FRAMES * np.arange(len(sent_ns))
    read_ns = recorder.times_ns(firsts + match.lags_frames[firsts])
    delays_ns = [heard - said for heard, said in zip(read_ns, sent_ns, strict=False)]
    return Outcome(sent, received, match, 0, lost_frames, _median_ms(delays_ns))


def _encoded(voice: NDArray[np.float32]) -> list[bytes]:
    # Speech, but not "voip": that mode also cuts what is below a voice, and so shifts phases.
    encoder = OpusEncoder(1, "audio")
    lead = np.zeros((_LEAD_PACKETS * PACKET_FRAMES, 1), np.float32)
    return [
        encoder.encode(pcm) for pcm in in_packets([lead, voice[:, np.newaxis]], 1, _TAIL_PACKETS)
    ]


def _sent(place: Place, uplink: Uplink, packets: list[bytes]) -> tuple[list[int], int]:
    """Send in real time. When each packet of the voice was handed over, and the frames lost."""
    times_ns, refused, before = [], 0, 0
    for number, packet in enumerate(paced(packets)):
        if place.stop.is_set():
            break
        if number == _LEAD_PACKETS:
            before = _lost_in_mic(uplink)
        times_ns.append(time.monotonic_ns())
        refused += not uplink.send(packet)
    uplink.play_out()
    lost = _lost_in_mic(uplink) - before + PACKET_FRAMES * refused
    return times_ns[_LEAD_PACKETS:-_TAIL_PACKETS], lost


def _lost_in_mic(uplink: Uplink) -> int:
    mic = uplink.mic
    return mic.dropped + mic.trimmed + mic.stale


def _median_ms(times_ns: list[int]) -> float:
    return statistics.median(times_ns) / 1e6 if times_ns else float("nan")
