"""Writes real media for tests: sound and moving pictures of any form that Tessera reads, made with PyAV."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# The AV1 encoder writes to stderr by itself.
os.environ.setdefault("SVT_LOG", "0")

Samples = NDArray[np.float32]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """A container and the encoder of one of its tracks."""

    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)


_X264 = {"preset": "ultrafast", "crf": "10", "g": "10"}
# Its lookahead overruns a buffer at pictures this small.
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=10:rc-lookahead=0:bframes=0"}
_VPX = {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1M"}

SOUND: dict[str, Form] = {
    "wav": Form("wav", "pcm_s16le"),
    "wav-u8": Form("wav", "pcm_u8"),
    "wav-s24": Form("wav", "pcm_s24le"),
    "wav-f32": Form("wav", "pcm_f32le"),
    "mp3": Form("mp3", "libmp3lame"),
    "opus": Form("ogg", "libopus"),
    "vorbis": Form("ogg", "vorbis", {"strict": "experimental"}),
    "flac": Form("flac", "flac"),
    "m4a": Form("ipod", "aac"),
    "alac": Form("ipod", "alac"),
    "mka": Form("matroska", "libopus"),
    "webm": Form("webm", "libopus"),
}
PICTURE: dict[str, Form] = {
    "mp4": Form("mp4", "libx264", _X264),
    "mov": Form("mov", "libx264", _X264),
    "mkv": Form("matroska", "libx264", _X264),
    "hevc": Form("mp4", "libx265", _X265),
    "vp8": Form("webm", "libvpx", _VPX),
    "vp9": Form("webm", "libvpx-vp9", _VPX),
    "av1": Form("mp4", "libsvtav1", {"preset": "12", "crf": "20"}),
    "mpeg4": Form("mp4", "mpeg4", {"b": "1M"}),
}
_TRACK_OF = {"mp4": "aac", "mov": "aac", "matroska": "libopus", "webm": "libopus"}
_LAYOUT = {1: "mono", 2: "stereo", 3: "3.0", 6: "5.1"}


def sine(seconds: float, rate: int = 16_000, *, hz: float = 1000.0, level: float = 0.5) -> Samples:
    """A tone, [1, seconds * rate]."""
    times = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * times, dtype=np.float64))[None].astype(np.float32)


def chirp(seconds: float, rate: int = 16_000, *, level: float = 0.5) -> Samples:
    """A tone that rises by 100 Hz a second, so that no second is like another, [1, seconds * rate]."""
    times = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * (100 + 50 * times) * times))[None].astype(np.float32)


def shades(values: Sequence[float] | NDArray[Any], height: int = 32, width: int = 48) -> Pictures:
    """One grey picture per value in 0..255, [n, height, width, 3]."""
    grey = np.asarray(values, np.uint8)[:, None, None, None]
    return np.broadcast_to(grey, (len(grey), height, width, 3)).copy()


def sound_file(form: str, samples: Samples, rate: int) -> bytes:
    """`samples` [channels, n] as a file of `SOUND[form]`; a rate that the codec lacks becomes 48 kHz."""
    spec, file = SOUND[form], io.BytesIO()
    if spec.codec == "vorbis" and len(samples) == 1:  # its encoder knows stereo alone
        samples = np.repeat(samples, 2, axis=0)
    with av.open(file, "w", format=spec.container) as container:
        for packet in _sound_packets(container, spec, samples, rate):
            container.mux(packet)
    return file.getvalue()


def video_file(
    form: str,
    pictures: Pictures,
    fps: int = 10,
    *,
    times: Sequence[float] | None = None,
    rotation: int | None = None,
    sound: tuple[Samples, int] | None = None,
    sound_start: float = 0.0,
    muxing: Mapping[str, str] | None = None,
) -> bytes:
    """`pictures` [n, height, width, 3] as a file of `PICTURE[form]`.

    `times`: when each picture appears, in seconds, instead of evenly at `fps`. `rotation`: degrees by which a
    player turns the picture counter-clockwise. `sound`: samples [channels, n] and their rate, as a second
    track, `sound_start` seconds late. `muxing`: options of the container.
    """
    spec, file = PICTURE[form], io.BytesIO()
    with av.open(file, "w", format=spec.container, options=dict(muxing or {})) as container:
        stream: Any = container.add_stream(spec.codec, rate=fps, options=dict(spec.options))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        packets = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(1000 * (number / fps if times is None else times[number]))
            frame.time_base = Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        # The first packet that is muxed writes the header, so the second track is added before it.
        if sound is not None:
            packets += _sound_packets(
                container, Form(spec.container, _TRACK_OF[spec.container]), *sound, start=sound_start
            )
        for packet in packets:
            container.mux(packet)
    return file.getvalue()


def picture_file(codec: str, container: str, pixels: str, side: int = 64, count: int = 1) -> bytes:
    """`count` grey pictures in any form; also in those that Tessera does not read."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = side, side, pixels
        for picture in shades([80] * count, side, side):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


@cache
def clip(form: str) -> bytes:
    """Three seconds of `form`, with sound where it is a video."""
    if form in SOUND:
        return sound_file(form, chirp(3, 48_000), 48_000)
    muxing = {"movflags": "frag_keyframe+empty_moov"} if form == "fragments" else None
    pictures = shades(range(10, 250, 8))
    form = "mp4" if form == "fragments" else form
    return video_file(form, pictures, sound=(chirp(3, 48_000), 48_000), muxing=muxing)


def _sound_packets(container: Any, form: Form, samples: Samples, rate: int, start: float = 0.0) -> list[Any]:
    layout = _LAYOUT[len(samples)]
    rates = av.Codec(form.codec, "w").audio_rates
    possible = rate if not rates or rate in rates else 48_000
    stream = container.add_stream(form.codec, rate=possible, layout=layout, options=dict(form.options))
    resampler = av.AudioResampler(stream.codec_context.format, layout, stream.codec_context.sample_rate)
    packets: list[Any] = []
    for frame in [*_frames(samples, layout, rate, round(start * rate)), None]:
        for part in resampler.resample(frame):
            if part is not None:  # a resampler with nothing to do passes on the None of a flush
                packets += stream.encode(part)
    packets += stream.encode(None)
    return packets


def _frames(samples: Samples, layout: str, rate: int, start: int) -> Iterator[av.AudioFrame]:
    """`samples` in frames of a second, the first at `start` samples."""
    for at in range(0, samples.shape[1], rate):
        part = np.ascontiguousarray(samples[:, at : at + rate])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start + at
        yield frame
