"""stagebox: the audio of a streaming host, over PipeWire.

Everything the machine plays comes out as PCM (`open_audio_capture`), and a remote voice goes in
as a microphone that every application can record (`open_virtual_mic`, `MicPump`).
"""

import logging

from .capture import AudioCapturer, CaptureStats, Chunk, open_audio_capture
from .errors import (
    BackendDied,
    CaptureClosed,
    CaptureDied,
    CodecError,
    DaemonAbsent,
    GraphClosed,
    PipeWireUnavailable,
    StageboxError,
    UnsupportedPlatform,
)
from .layout import CHANNELS, MIC_CHANNELS, SAMPLE_RATE
from .mic import MicStats, VirtualMic, open_virtual_mic
from .opus import OpusDecoder, OpusEncoder
from .pump import MIC_QUEUE_CAP, MicPump, MicSender, PumpStats
from .pump_state import PUMP_TUNING, PumpTuning

__all__ = [
    "CHANNELS",
    "MIC_CHANNELS",
    "MIC_QUEUE_CAP",
    "PUMP_TUNING",
    "SAMPLE_RATE",
    "AudioCapturer",
    "BackendDied",
    "CaptureClosed",
    "CaptureDied",
    "CaptureStats",
    "Chunk",
    "CodecError",
    "DaemonAbsent",
    "GraphClosed",
    "MicPump",
    "MicSender",
    "MicStats",
    "OpusDecoder",
    "OpusEncoder",
    "PipeWireUnavailable",
    "PumpStats",
    "PumpTuning",
    "StageboxError",
    "UnsupportedPlatform",
    "VirtualMic",
    "open_audio_capture",
    "open_virtual_mic",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
