"""Opens media without trusting it: no file names, no protocols, only containers and codecs on a list.

FFmpeg never sees a path. An upload that names other files (a playlist, an `ffconcat` script) is refused
before anything it names could be opened, and so is every picture format that FFmpeg would show as a video.
"""

from __future__ import annotations

import ctypes
import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from tessera.errors import InputError
from tessera.limits import Limits

Source = bytes | os.PathLike[str]
"""Bytes from a client; a path only from the command line or a user of the library."""

FORMATS = "wav,mp3,ogg,flac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
_FORMS = "wav, mp3, ogg, flac, mp4, mov, m4a, 3gp, matroska, webm"
_PCM = [f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")]
AUDIO_CODECS = frozenset([*_PCM, "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw"]) | {
    "aac",
    "alac",
    "flac",
    "mp3",
    "opus",
    "vorbis",
}
VIDEO_CODECS = frozenset({"av1", "h264", "hevc", "mpeg4", "vp8", "vp9"})

# FFmpeg's whitelist speaks of decoders, of which two do not have the name of their codec.
_DECODERS = ",".join(sorted(AUDIO_CODECS | VIDEO_CODECS | {"libdav1d", "mp3float"}))
_SIGNATURES = (b"RF64", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3")
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"})
# FFmpeg counts rows as longer than they are, up to this much in all. The exact limit is kept frame by frame.
_ALIGNMENT = 64 * 2**16
_LARGEST_TABLE = 64 * 2**20
_BYTES_PER_PIXEL = 8
_STILL_BRANDS = frozenset({"avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"})
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
FAULTS = (
    av.error.FFmpegError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What FFmpeg and PyAV raise at media they do not like; they share no base class."""


class MediaFile:
    """One open container and the two tracks of it that are read: the first sound, the first moving picture.

    Raises:
        InputError: `empty_input`, `media_too_large`, `unsupported_media` or `media_corrupt`.
        OSError: the path cannot be read.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._limits = limits
        self._bytes = _open_bytes(source, limits)
        _bound_allocations(limits)
        try:
            self._container = self._open()
        except BaseException:
            self._bytes.close()
            raise
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @property
    def audio(self) -> AudioStream | None:
        """The first sound track."""
        return next(iter(self._container.streams.audio), None)

    @property
    def video(self) -> VideoStream | None:
        """The first moving picture; a cover picture is none."""
        moving = (s for s in self._container.streams.video if not s.disposition & _NOT_MOVING)
        return next(moving, None)

    @property
    def start(self) -> Fraction:
        """When the clip starts: the earlier of its two tracks, in seconds of the container's clock."""
        return min(start_of(stream) for stream in (self.audio, self.video) if stream is not None)

    def picture_size(self) -> tuple[int, int]:
        """Width and height of the picture, 0 if unknown.

        A picture over the limit is not probed, so that only the header tells its size. Rewinds then.
        """
        size = _size(self.video)
        if not any(size):
            self._container.close()
            self._container = self._open(codec_whitelist="none")
            size = _size(self.video)
            self.rewind()
        return size

    def claimed_end(self, stream: Stream) -> Fraction | None:
        """When `stream` ends, in seconds of the container's clock, if a header says so."""
        if stream.duration is not None and stream.time_base is not None:
            return start_of(stream) + stream.duration * stream.time_base
        if self._container.duration is not None:
            return Fraction((self._container.start_time or 0) + self._container.duration, av.time_base)
        return None

    def measured_end(self, stream: Stream) -> Fraction:
        """When `stream` ends, from the times of its packets; nothing is decoded. Rewinds."""
        end = start_of(stream)
        for packet in self._packets(stream):
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        self.rewind()
        return end

    def rewind(self) -> None:
        """Start over; streams handed out before are void. Formats differ in what a seek to zero means."""
        self._container.close()
        self._container = self._open()

    def seek(self, stream: Stream, time: Fraction) -> bool:
        """Go to the last key frame before `time` of the container's clock; False where that does not work."""
        if stream.time_base is None:
            return False
        try:
            self._container.seek(int(time / stream.time_base), stream=stream)
        except FAULTS:
            return False
        return True

    def frames(self, stream: AudioStream | VideoStream) -> Iterator[av.AudioFrame | av.VideoFrame]:
        """Decode `stream` from here on, on this thread alone: parallelism comes from many inputs at once.

        A file that ends early yields what it holds; a packet that does not decode is left out.

        Raises:
            InputError: `empty_input` if the stream has no packets; `media_corrupt` if nothing decodes, or
                if fewer packets decode than fail.
        """
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(self._limits.max_video_pixels + _ALIGNMENT)}
        shown = good = bad = 0
        for packet in self._packets(stream):
            try:
                frames = packet.decode()
            except FAULTS:
                bad += 1
                continue
            good += packet.size > 0
            shown += len(frames)
            yield from frames
        if not good + bad:
            raise InputError("empty_input", f"the {stream.type} track is empty")
        if bad > good or not shown:
            raise InputError("media_corrupt", f"the {stream.type} track is damaged")

    def close(self) -> None:
        """Free everything. Idempotent."""
        self._container.close()
        self._bytes.close()

    def _packets(self, stream: Stream) -> Iterator[av.Packet[Any]]:
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, *FAULTS):
                return
            yield packet

    def _open(self, codec_whitelist: str = _DECODERS) -> InputContainer:
        options = {
            "format_whitelist": FORMATS,
            "protocol_whitelist": "none",
            "codec_whitelist": codec_whitelist,
            "max_pixels": str(self._limits.max_video_pixels + _ALIGNMENT),
            # One more than is read, so that the error can say how many there are.
            "max_streams": str(self._limits.max_media_streams + 1),
            # FFmpeg would try thousands of packets of a wav for other codecs: longer than decoding it takes.
            "max_probe_packets": "1",
            # Packets of a wav; its own size of 4 kB is 80 packets a 10 s clip, each with its cost.
            "max_size": "65536",
        }
        self._bytes.seek(0)
        try:
            return av.open(self._bytes, "r", options=options, metadata_errors="replace")
        except MemoryError:
            raise InputError(
                "media_too_large", "the media claims too many tracks or too large tables"
            ) from None
        except FAULTS:
            raise self._unopened() from None

    def _unopened(self) -> InputError:
        """What is wrong with bytes that do not open."""
        self._bytes.seek(0)
        head = self._bytes.read(12)
        known = (
            head.startswith(_SIGNATURES)
            or head[4:8] in _BOXES
            or (head[:4] == b"RIFF" and head[8:] in (b"", b"WAVE"))
        )
        if known:
            return InputError("media_corrupt", "the media is damaged: its headers cannot be read")
        return InputError("unsupported_media", "not media of a form we read: " + _FORMS)

    def _check(self) -> None:
        streams, brand = self._container.streams, self._container.metadata.get("major_brand")
        if len(streams) > self._limits.max_media_streams:
            raise self._limits.exceeded("max_media_streams", "media_too_large", len(streams), "streams")
        if brand in _STILL_BRANDS:
            raise InputError("unsupported_media", "a still picture is neither audio nor video")


def _size(stream: VideoStream | None) -> tuple[int, int]:
    return (0, 0) if stream is None else (stream.codec_context.width, stream.codec_context.height)


def start_of(stream: Stream) -> Fraction:
    """When `stream` starts, in seconds of the container's clock."""
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return stream.start_time * stream.time_base


def readable(stream: AudioStream | VideoStream) -> bool:
    """Whether the codec of `stream` is one we decode."""
    # PyAV has no context for a stream without a decoder, which its annotations do not say.
    context: object = stream.codec_context
    names = AUDIO_CODECS if isinstance(stream, AudioStream) else VIDEO_CODECS
    return context is not None and stream.codec_context.codec.canonical_name in names


def _bound_allocations(limits: Limits) -> None:
    """Bound what FFmpeg may allocate at once, in this process, by what one decoded picture needs.

    A header of a kilobyte can claim a table of gigabytes, which is made before anything of it can be checked.
    """
    largest = max(_LARGEST_TABLE, _BYTES_PER_PIXEL * limits.max_video_pixels)
    with suppress(OSError, AttributeError):  # a platform where FFmpeg is not reached through PyAV
        ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(largest))


def _open_bytes(source: Source, limits: Limits) -> BinaryIO:
    if isinstance(source, bytes):
        size = len(source)
    else:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("invalid_value", "not a plain file")
        size = status.st_size
    if not size:
        raise InputError("empty_input", "the media is empty: 0 bytes")
    if size > limits.max_media_bytes:
        raise limits.exceeded("max_media_bytes", "media_too_large", size, "bytes")
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
