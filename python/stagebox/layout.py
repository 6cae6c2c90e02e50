"""Rates, channel counts and channel positions.

Surround is in GameStream's order: FL FR FC LFE RL RR [SL SR].
"""

from typing import Final

SAMPLE_RATE: Final = 48_000
"""Hz, of everything that goes through stagebox: Opus's full-band rate (RFC 6716 section 2)."""

CHANNELS: Final = 2
"""Channels of a capture unless asked for otherwise."""

MIC_CHANNELS: Final = 2
"""Channels of a virtual microphone unless asked for otherwise."""

POSITIONS: Final[dict[int, tuple[str, ...]]] = {
    1: ("MONO",),
    2: ("FL", "FR"),
    6: ("FL", "FR", "FC", "LFE", "RL", "RR"),
    8: ("FL", "FR", "FC", "LFE", "RL", "RR", "SL", "SR"),
}
"""Channel count of a capture -> the position of each channel, in order."""

MIC_CHANNEL_COUNTS: Final = (1, 2)
"""The channel counts a virtual microphone and Opus packets can have."""
