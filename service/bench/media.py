"""Sound and film to measure with, made in memory."""

from __future__ import annotations

import io

import av
import numpy as np

_RATE = 16_000
_FPS = 25


def wav(seconds: float, pitch: float = 200.0) -> bytes:
    """A tone that rises from `pitch` Hz."""
    times = np.arange(int(seconds * _RATE)) / _RATE
    samples = (0.4 * np.sin(2 * np.pi * (pitch + 40 * times) * times) * 32767).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = _RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def mp4(seconds: float, width: int = 320, height: int = 240, hue: int = 0) -> bytes:
    """A pattern that moves."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(int(seconds * _FPS)):
            channels = [columns + 2 * number + hue, rows + number, columns ^ rows]
            picture = np.stack(channels, axis=-1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
