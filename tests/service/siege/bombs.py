"""Small files that claim much: hours, gigabytes, pixels, streams, tables."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from tests.media_files import chirp, clip, picture_file, shades, sound_file, video_file


def opus_that_claims(hours: float) -> bytes:
    """Three seconds of sound, whose last page says that it ends after `hours`."""
    data = bytearray(clip("opus"))
    page = data.rindex(b"OggS")
    struct.pack_into(
        "<qI", data, page + 6, round(hours * 3600 * 48_000), struct.unpack_from("<I", data, page + 14)[0]
    )
    struct.pack_into("<I", data, page + 22, 0)
    struct.pack_into("<I", data, page + 22, _ogg_checksum(data[page:]))
    return bytes(data)


def wav_that_claims(size: int) -> bytes:
    """A second of sound after a header of another size."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(size + 36, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + (struct.pack("<I", size) + bytes(32_000))
    )


def rf64_that_claims(size: int) -> bytes:
    """The same with sizes of eight bytes."""
    sizes = b"ds64" + struct.pack("<IQQQI", 28, size + 80, size, size // 2, 0)
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + b"fmt " + form + b"data\xff\xff\xff\xff" + bytes(32_000)


def mp4_with(form: str, tag: bytes, offset: int, value: bytes) -> bytes:
    """A film or a sound with `value` at `offset` behind each atom `tag`."""
    data, at = bytearray(clip(form)), -1
    while (at := data.find(tag, at + 1)) >= 0:
        data[at + offset : at + offset + len(value)] = value
    return bytes(data)


def mp4_of_many_tracks(count: int) -> bytes:
    """A sound whose index has the same track again and again."""
    data = clip("m4a")
    moov, trak = data.index(b"moov") - 4, data.index(b"trak") - 4
    (size,), (track,) = struct.unpack_from(">I", data, moov), struct.unpack_from(">I", data, trak)
    copies = data[trak : trak + track] * count
    index = struct.pack(">I", size + len(copies)) + data[moov + 4 : moov + size] + copies
    return data[:moov] + index + data[moov + size :]


def matroska_of_many_tracks(count: int) -> bytes:
    """A Matroska of which nothing but its tracks is there."""
    track = _element(
        b"\xae", _element(b"\xd7", b"\x01") + _element(b"\x83", b"\x02") + _element(b"\x86", b"A_OPUS")
    )
    return _matroska(_element(b"\x16T\xaek", track * count))


def matroska_with(element: bytes) -> bytes:
    """A sound in a Matroska with `element` in front of its tracks."""
    data = clip("mka")
    at = data.index(b"\x16T\xaek")
    return data[:at] + element + data[at:]


def void(claimed: int, real: int) -> bytes:
    """Nothing, of a size that it says."""
    return b"\xec\x01" + claimed.to_bytes(7, "big") + bytes(real)


def cues(count: int) -> bytes:
    """An index of so many entries."""
    point = _element(b"\xbb", _element(b"\xb3", b"\0") + _element(b"\xb7", _element(b"\xf7", b"\x01")))
    return _element(b"\x1cS\xbbk", point * count)


def nested(depth: int) -> bytes:
    """Tags in tags in tags."""
    data = b""
    for _ in range(depth):
        data = _element(b"\x67\xc8", data)
    return _element(b"\x12T\xc3g", _element(b"\x73\x73", data))


def large_picture(width: int, height: int) -> bytes:
    """One picture, really so large."""
    return video_file("mp4", shades([128], height, width), 1)


def vp8_that_claims(side: int) -> bytes:
    """A film of which every key frame says that it is larger."""
    data = bytearray(clip("vp8"))
    at = -1
    while (at := data.find(b"\x9d\x01\x2a", at + 1)) >= 0:
        struct.pack_into("<HH", data, at + 3, min(side, 2**14 - 1), min(side, 2**14 - 1))
    return bytes(data)


def late_frames(form: str, seconds: float) -> bytes:
    """Three pictures, of which the last comes `seconds` later."""
    return video_file(form, shades([10, 90, 200]), times=[0.0, 0.1, seconds])


def many_frames(fps: int, count: int) -> bytes:
    """So many pictures in a moment."""
    return video_file("mkv", shades([90] * count, 16, 16), times=[number / fps for number in range(count)])


def with_more_streams() -> bytes:
    """Sound, subtitles and an attached file."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        sound: Any = out.add_stream("libopus", rate=48_000, layout="mono")
        out.add_attachment("../../etc/passwd", "text/plain", b"secret" * 1000)
        samples = np.ascontiguousarray(chirp(2.0, 48_000))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(sound.codec_context.format, "mono", 48_000)
        for part in [*resampler.resample(frame), None]:
            out.mux(sound.encode(part))
    return file.getvalue()


def picture_in(codec: str, pixels: str) -> Callable[[], bytes]:
    """A film of pictures of a form that is not read."""
    return lambda: picture_file(codec, "mov", pixels, count=3)


def silence(seconds: float) -> bytes:
    """So much of it, in little space."""
    return sound_file("flac", np.zeros((1, round(seconds * 8000)), np.float32), 8000)


def _element(name: bytes, data: bytes) -> bytes:
    return name + (len(data) | 1 << 56).to_bytes(8, "big") + data


def _matroska(content: bytes) -> bytes:
    head = (
        _element(b"\x42\x82", b"matroska") + _element(b"\x42\x87", b"\x04") + _element(b"\x42\x85", b"\x02")
    )
    info = _element(b"\x15I\xa9f", _element(b"\x2a\xd7\xb1", b"\x0f\x42\x40"))
    return _element(b"\x1aE\xdf\xa3", head) + _element(b"\x18S\x80g", info + content)


def _ogg_checksum(page: bytes | bytearray) -> int:
    """CRC-32 with the polynomial 0x04c11db7, no reflection."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        value &= 0xFFFFFFFF
    return value
