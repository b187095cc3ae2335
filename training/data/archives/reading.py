"""Reads the clips of a dataset in parallel and makes each what a store holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.data.archives.dataset import Clip, Dataset
from training.data.archives.fitting import ROW_SHAPES, usable
from training.data.archives.targets import from_flags
from training.data.archives.texts import TextReader

_AHEAD = 4
"""Clips in memory for each thread: unpacking releases the interpreter, so threads are enough."""


@dataclass(frozen=True)
class Ready:
    """One clip as a store holds it, by the names of the store's arrays, and how many seconds its files had."""

    arrays: dict[str, NDArray[Any]]
    seconds: dict[str, int]


@dataclass(frozen=True)
class Preparation:
    """How the clips of a dataset are made ready."""

    dataset: Dataset
    video_dtype: DTypeLike = np.float32
    text: TextReader | None = None

    def of(self, clip: Clip) -> Ready:
        """Read and check one clip.

        Raises:
            BadClip: a file is missing or damaged, or it holds what no store can.
        """
        arrays: dict[str, NDArray[Any]] = {}
        seconds: dict[str, int] = {}
        for modality, read in self.dataset.readers.items():
            dtype = self.video_dtype if modality == "video" else np.float32
            raw = read(clip)
            arrays[modality] = usable(modality, raw, self.dataset.seconds, dtype)
            seconds[modality] = 1 if raw.shape == ROW_SHAPES[modality] else len(raw)
        if self.dataset.flags:
            flags, classes = self.dataset.flags(clip), len(self.dataset.classes)
            arrays["segments"] = from_flags(flags, clip.label, classes, self.dataset.seconds)
        elif clip.target is not None:
            arrays["segments"] = clip.target
        if self.text:
            for sentence in clip.texts:
                self.text.require_words(sentence)
        return Ready(arrays, seconds)

    def of_all(
        self, clips: Sequence[Clip], workers: int
    ) -> Generator[tuple[Clip, Future[Ready]], None, None]:
        """Each clip in order with what will be its arrays or its fault; few are in memory at a time."""
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[tuple[Clip, Future[Ready]]] = deque()
            try:
                for clip in clips:
                    waiting.append((clip, pool.submit(self.of, clip)))
                    if len(waiting) > _AHEAD * workers:
                        yield waiting.popleft()
                yield from waiting
            finally:
                pool.shutdown(cancel_futures=True)
