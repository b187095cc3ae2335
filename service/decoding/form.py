"""How windows of a clip lie in shared memory: one after the other, each as long as a whole one."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tessera.manifest import AudioSpec, TimeGrid, VideoSpec
from tessera.windows import Modality, Window


@dataclass(frozen=True, slots=True)
class WindowForm:
    """The one array of a window: its name, its type, and the shape [segments * rows, ...] or [segments, ...]."""

    modality: Modality
    name: str
    dtype: np.dtype[Any]
    rows: int
    """Of a segment, along the first axis."""
    tail: tuple[int, ...]
    window_segments: int

    @classmethod
    def of(cls, spec: AudioSpec | VideoSpec, grid: TimeGrid) -> Self:
        """That of the windows which a backbone takes."""
        if isinstance(spec, AudioSpec):
            samples = round(spec.sample_rate * grid.hop_sec)
            return cls("audio", "waveform", np.dtype(np.float32), samples, (), grid.window_segments)
        picture = (spec.frames_per_segment, spec.height, spec.width, 3)
        return cls("video", "frames", np.dtype(np.uint8), 1, picture, grid.window_segments)

    @property
    def bytes(self) -> int:
        """Of a whole window."""
        return self.window_segments * self.rows * int(np.prod(self.tail, dtype=int)) * self.dtype.itemsize

    def array(self, memory: mmap.mmap, number: int, segments: int) -> NDArray[Any]:
        """Window `number` of `memory`, which has so many segments: a view."""
        shape = (segments * self.rows, *self.tail)
        count = int(np.prod(shape, dtype=int))
        return np.frombuffer(memory, self.dtype, count, number * self.bytes).reshape(shape)

    def write(self, memory: mmap.mmap, windows: Sequence[Window]) -> None:
        """Put `windows` there."""
        for number, window in enumerate(windows):
            self.array(memory, number, window.segments)[...] = window.inputs[self.name]

    def read(self, memory: mmap.mmap, segments: Sequence[int]) -> list[Window]:
        """Windows with so many segments each; they keep `memory` alive."""
        return [
            Window(self.modality, {self.name: self.array(memory, number, count)}, count)
            for number, count in enumerate(segments)
        ]
