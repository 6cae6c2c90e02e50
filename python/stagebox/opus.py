"""Opus packets to PCM and back, at 48 kHz, over the libopus that opuslib loads.

Only opuslib's library handle is used. Its own `Decoder.decode_float` needs 160 to 250 µs for a
5 ms stereo packet that libopus decodes in 24 (measured with libopus 1.3.1), because it makes a
new buffer and a Python list of it for every packet.

opuslib loads libopus when it is imported, so it is imported when the first decoder or encoder is
made: `import stagebox` works without either.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_void_p
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from . import arguments
from .errors import CodecError
from .layout import MIC_CHANNEL_COUNTS, MIC_CHANNELS, SAMPLE_RATE
from .unshared import Unshared

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_PACKET_BYTES: Final = 65_535
"""No datagram holds more, and without padding no packet is longer than 61 296 bytes: a header of
two, 48 parts of 1275, and two for the length of each but the last (RFC 6716 section 3.2.5)."""

MAX_PACKET_FRAMES: Final = 5760
"""Frames of the longest packet: 120 ms at 48 kHz (RFC 6716 section 2.1.4)."""

CONCEAL_STEP_FRAMES: Final = 120
"""Losses are concealed in steps of 2.5 ms, the least that Opus codes (RFC 6716 section 2.1.4)."""

ENCODE_FRAMES: Final = (120, 240, 480, 960, 1920, 2880, 3840, 4800, 5760)
"""Frames one packet can hold: 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms.

The last three need libopus 1.2 or later.
"""

Application = Literal["voip", "audio", "lowdelay"]
"""What an encoder optimises for: speech, any sound, or the shortest delay."""

# Numbers of libopus's opus_defines.h, part of its ABI.
_APPLICATIONS: Final[dict[Application, int]] = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
_OK: Final = 0
_SET_BITRATE: Final = 4002
_RESET_STATE: Final = 4028
_BITRATES: Final = range(500, 512_001)

# RFC 6716 section 3.4: at most six 20 ms parts of 1275 bytes, and up to two bytes more for each.
_ENCODED_BYTES: Final = 6 * (1276 + 2)

_FLOAT32: Final = np.dtype(np.float32)


def libopus_version() -> str:
    """Return what libopus calls itself, "libopus 1.3.1"; CodecError where it cannot be loaded."""
    return str(_libopus().version().decode())


class OpusDecoder(Unshared):
    """Turns Opus packets into PCM, one stream of packets after another.

    One thread at a time may use a decoder, any thread; others run meanwhile, for the interpreter
    lock is released while libopus works (but see `into()`).
    """

    __slots__ = ("__weakref__", "_channels", "_lib", "_state")

    def __init__(self, channels: int = MIC_CHANNELS) -> None:
        """Make a decoder whose PCM has `channels` channels, 1 or 2, whatever the packets have.

        Raises ValueError for another count, CodecError where libopus cannot be loaded.
        """
        self._channels = arguments.channel_count(channels, MIC_CHANNEL_COUNTS)
        self._lib = _libopus()
        self._state = _owned(
            self,
            functools.partial(self._lib.decoder_create, SAMPLE_RATE, self._channels),
            self._lib.decoder_destroy,
        )

    @property
    def channels(self) -> int:
        """Channels of the PCM this decoder writes."""
        return self._channels

    def decode(self, packet: bytes | bytearray | memoryview, out: NDArray[np.float32]) -> int:
        """Decode one packet into the start of `out` and return how many frames it was.

        `packet` is bytes-like. `out` is a writable C-contiguous float32 array, `(frames,
        channels)` or flat interleaved; `MAX_PACKET_FRAMES` frames are enough for any packet. What
        it holds after an error is undefined.

        Raises CodecError, in libopus's words, for a packet that is not Opus or is longer than
        `out`, and for one of more than `MAX_PACKET_BYTES`; ValueError or TypeError for a wrong
        `out` and for an empty packet.
        """
        return self._decode(self._lib.decode_float, *self._samples_of(out), packet)

    def into(self, out: NDArray[np.float32]) -> Callable[[bytes | bytearray | memoryview], int]:
        """Return what decodes one packet after another into the start of the same `out`.

        As `decode()`, whose errors about `out` this raises; but `out` is looked at only once, and
        the interpreter lock is held: 20 µs for a packet of 5 ms, half a millisecond for one of
        120 ms. A thread that lets go of it may wait for it 5 ms for each other one that is busy.
        """
        return functools.partial(self._decode, self._lib.decode_float_held, *self._samples_of(out))

    def _samples_of(self, out: NDArray[np.float32]) -> tuple[c_float, int]:
        """Return where `out` begins and the frames it has room for.

        No packet is longer than the maximum, and libopus takes the room as a 32-bit int.
        """
        room = min(_frames_of(out, self._channels, "out"), MAX_PACKET_FRAMES)
        return _writable(out), room

    def _decode(
        self,
        call: Callable[..., int],
        samples: c_float,
        room: int,
        packet: bytes | bytearray | memoryview,
    ) -> int:
        data = arguments.packet(packet)
        size = len(data)
        if not size:
            raise ValueError("packet must not be empty: use conceal() for one that did not arrive")
        if size > MAX_PACKET_BYTES:
            raise CodecError(f"{size} bytes are no Opus packet: {MAX_PACKET_BYTES} at most")
        frames = call(self._state, data, size, samples, room, 0)
        if frames < 0:
            task = f"decode a packet of {size} bytes into {room} frames"
            raise self._lib.refusal(task, frames)
        return frames

    def conceal(self, out: NDArray[np.float32]) -> int:
        """Fill all of `out` with a guess at what a lost packet held; return its frames.

        `out` is as for `decode()`, its length a multiple of `CONCEAL_STEP_FRAMES` up to
        `MAX_PACKET_FRAMES`, best as long as the packet that was lost. Otherwise ValueError.
        """
        room = _frames_of(out, self._channels, "out")
        if room % CONCEAL_STEP_FRAMES or room > MAX_PACKET_FRAMES:
            raise ValueError(
                f"out must have a multiple of {CONCEAL_STEP_FRAMES} frames, up to "
                f"{MAX_PACKET_FRAMES}, not {room}"
            )
        frames: int = self._lib.decode_float(self._state, None, 0, _writable(out), room, 0)
        if frames < 0:
            raise self._lib.refusal(f"conceal {room} frames", frames)
        return frames

    def reset(self) -> None:
        """Forget what was decoded so far, as before a stream that has nothing to do with it."""
        self._lib.control(self._lib.decoder_ctl, self._state, "reset a decoder", _RESET_STATE)


class OpusEncoder(Unshared):
    """Turns PCM into Opus packets.

    One thread at a time may use an encoder, any thread; others run meanwhile, for the interpreter
    lock is released while libopus works.
    """

    __slots__ = ("__weakref__", "_channels", "_lib", "_packet", "_state")

    def __init__(
        self,
        channels: int = MIC_CHANNELS,
        application: Application = "voip",
        bitrate: int | None = None,
    ) -> None:
        """Make an encoder of 1 or 2 channels; `bitrate` is in bits/s, None for libopus's choice.

        Raises ValueError for what is not accepted, CodecError where libopus cannot be loaded.
        """
        self._channels = arguments.channel_count(channels, MIC_CHANNEL_COUNTS)
        if not isinstance(application, str) or application not in _APPLICATIONS:
            raise ValueError(
                f"application must be one of {list(_APPLICATIONS)}, not {application!r}"
            )
        if bitrate is not None and arguments.whole("bitrate", bitrate) not in _BITRATES:
            raise ValueError(
                f"bitrate must be {_BITRATES[0]} to {_BITRATES[-1]} bits/s, or None, "
                f"not {bitrate!r}"
            )
        self._lib = _libopus()
        self._state = _owned(
            self,
            functools.partial(
                self._lib.encoder_create, SAMPLE_RATE, self._channels, _APPLICATIONS[application]
            ),
            self._lib.encoder_destroy,
        )
        self._packet = ctypes.create_string_buffer(_ENCODED_BYTES)
        if bitrate is not None:
            task = f"set the bitrate to {bitrate}"
            self._lib.control(self._lib.encoder_ctl, self._state, task, _SET_BITRATE, bitrate)

    @property
    def channels(self) -> int:
        """Channels of the PCM this encoder takes."""
        return self._channels

    def encode(self, pcm: NDArray[np.float32]) -> bytes:
        """Encode all of `pcm` as one packet.

        `pcm` is a C-contiguous float32 array, `(frames, channels)` or flat interleaved, of as
        many frames as `ENCODE_FRAMES` lists; beyond ±1.0 is distorted. Raises ValueError or
        TypeError for another, CodecError, in libopus's words, for what libopus refuses.
        """
        frames = _frames_of(pcm, self._channels, "pcm")
        if frames not in ENCODE_FRAMES:
            raise ValueError(f"pcm must have one of {list(ENCODE_FRAMES)} frames, not {frames}")
        size = self._lib.encode_float(
            self._state, pcm.ctypes.data, frames, self._packet, _ENCODED_BYTES
        )
        if size < 0:
            raise self._lib.refusal(f"encode {frames} frames", size)
        return ctypes.string_at(self._packet, size)


class _LibOpus:
    """The functions of libopus that are used here, with their C types."""

    def __init__(self, library: ctypes.CDLL) -> None:
        function = functools.partial(_function, library)
        self.decoder_create = function("opus_decoder_create", c_void_p, c_int32, c_int, _INT_P)
        self.decoder_destroy = function("opus_decoder_destroy", None, c_void_p)
        decode = (c_int, c_void_p, c_char_p, c_int32, POINTER(c_float), c_int, c_int)
        self.decode_float = function("opus_decode_float", *decode)
        # with the interpreter lock held
        self.decode_float_held = ctypes.PYFUNCTYPE(*decode)(("opus_decode_float", library))
        self.encoder_create = function(
            "opus_encoder_create", c_void_p, c_int32, c_int, c_int, _INT_P
        )
        self.encoder_destroy = function("opus_encoder_destroy", None, c_void_p)
        self.encode_float = function(
            "opus_encode_float", c_int32, c_void_p, c_void_p, c_int, c_char_p, c_int32
        )
        # Variadic: the types of the arguments after the request go by the call.
        self.decoder_ctl = function("opus_decoder_ctl", c_int, c_void_p, c_int)
        self.encoder_ctl = function("opus_encoder_ctl", c_int, c_void_p, c_int)
        self.strerror = function("opus_strerror", c_char_p, c_int)
        self.version = function("opus_get_version_string", c_char_p)

    def refusal(self, task: str, code: int) -> CodecError:
        """The error for a `task` that libopus answered with the negative `code`."""
        return CodecError(f"libopus could not {task}: {self.strerror(code).decode()}")

    def control(
        self, ctl: Callable[..., int], state: int, task: str, request: int, *values: int
    ) -> None:
        """Send a control `request` to an encoder or decoder."""
        code = ctl(state, request, *map(c_int32, values))
        if code != _OK:
            raise self.refusal(task, code)


_INT_P: Final = POINTER(c_int)


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    # An item, not an attribute, is a function object of our own: the types that opuslib gave to
    # its own objects for the same functions stay as they are.
    function = library[name]
    function.restype = result
    function.argtypes = arguments
    return function


@functools.cache
def _libopus() -> _LibOpus:
    """The loaded libopus. Failures are not cached: it may be installed meanwhile."""
    try:
        from opuslib.api import libopus  # noqa: PLC0415 (loads libopus, which may be missing)
    except ImportError as error:
        raise CodecError("Opus needs the Python package opuslib: pip install opuslib") from error
    except Exception as error:  # opuslib raises a bare Exception where it finds no libopus
        raise CodecError(
            f"Opus needs the libopus library ({error}): "
            "install libopus0 on Debian or Ubuntu, opus on Fedora or Arch"
        ) from error
    return _LibOpus(libopus)


def _owned(owner: object, create: Callable[..., int | None], destroy: Callable[[int], None]) -> int:
    """The address of a new libopus state that lives as long as `owner`."""
    code = c_int()
    state = create(byref(code))
    if state is None:
        raise _libopus().refusal("make an encoder or decoder", code.value)
    # Not at exit: a daemon thread may be inside libopus while the interpreter goes down.
    weakref.finalize(owner, destroy, state).atexit = False
    return state


def _frames_of(pcm: NDArray[np.float32], channels: int, name: str) -> int:
    """How many frames the array called `name` holds; raises if it is not what it should be."""
    if not isinstance(pcm, np.ndarray) or pcm.dtype != _FLOAT32:
        found = getattr(pcm, "dtype", type(pcm).__name__)
        raise TypeError(f"{name} must be a numpy array of float32, not {found}")
    shape = pcm.shape
    fits = shape[1] == channels if len(shape) == 2 else len(shape) == 1
    frames, rest = divmod(pcm.size, channels)
    if not fits or rest or not frames:
        raise ValueError(
            f"{name} must have shape (frames, {channels}), or be flat with {channels} sample(s) "
            f"a frame, and at least one frame, not shape {shape}"
        )
    if not pcm.flags.c_contiguous or not pcm.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned: see numpy.require")
    return frames


def _writable(out: NDArray[np.float32]) -> c_float:
    """The first sample of `out`, which keeps `out` from being resized while libopus writes."""
    buffer: Any = out  # whether an array is declared to be a buffer depends on numpy's version
    try:
        return c_float.from_buffer(buffer)
    except TypeError as error:
        raise ValueError("out must be writable, not read-only") from error
