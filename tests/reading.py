"""Short forms of `read_audio` and `read_video` for tests: everything at once, on one small specification."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tessera.bundle import AudioSpec, TimeGrid, VideoSpec
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.media import read_audio, read_video

RATE = 16_000
GRID = TimeGrid()
LIMITS = Limits()
AUDIO = AudioSpec(backbone="test", sample_rate=RATE, feature_dim=1)
VIDEO = VideoSpec(backbone="test", frames_per_segment=2, height=16, width=24, grid=1, feature_dim=1)

Source = bytes | os.PathLike[str]


@dataclass(frozen=True)
class Heard:
    """All windows of a sound in one."""

    samples: NDArray[np.float32]
    windows: list[int]
    duration_sec: float
    truncated: bool
    start_sec: float

    @property
    def segments(self) -> int:
        return sum(self.windows)


@dataclass(frozen=True)
class Seen(Heard):
    """All windows of a moving picture in one; `samples` are the frames [segments, k, height, width, 3]."""

    @property
    def shades(self) -> NDArray[np.float64]:
        """Mean brightness of each frame, [segments * k]."""
        frames = self.samples.reshape(-1, *self.samples.shape[2:])
        return np.asarray(frames.mean(axis=(1, 2, 3)), np.float64)


def listen(source: Source, spec: AudioSpec = AUDIO, limits: Limits = LIMITS, **options: Any) -> Heard:
    with read_audio(source, spec, GRID, limits, **options) as reader:
        windows = list(reader)
        starts = [window.start_segment for window in windows]
        assert starts == list(range(0, len(windows) * GRID.window_segments, GRID.window_segments))
        samples = np.concatenate([window.samples for window in windows])
        segments = [window.segments for window in windows]
        assert samples.dtype == np.float32
        assert len(samples) == sum(segments) * spec.sample_rate
        return Heard(samples, segments, reader.duration_sec, reader.truncated, reader.start_sec)


def watch(source: Source, spec: VideoSpec = VIDEO, limits: Limits = LIMITS, **options: Any) -> Seen:
    with read_video(source, spec, GRID, limits, **options) as reader:
        windows = list(reader)
        frames = np.concatenate([window.frames for window in windows])
        segments = [window.segments for window in windows]
        assert frames.dtype == np.uint8
        assert frames.shape == (sum(segments), spec.frames_per_segment, spec.height, spec.width, 3)
        return Seen(frames, segments, reader.duration_sec, reader.truncated, reader.start_sec)


def refusal(source: bytes | os.PathLike[str], limits: Limits = LIMITS, **options: Any) -> InputError:
    """The error of `source`, the same whether its sound or its picture is asked for."""
    with pytest.raises(InputError) as of_sound:
        listen(source, limits=limits, **options)
    with pytest.raises(InputError) as of_picture:
        watch(source, limits=limits, **options)
    assert of_sound.value.code == of_picture.value.code
    return of_sound.value
