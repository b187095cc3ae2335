"""Batches as they run: stacked, cut in halves when they fail, and what running them took of the device."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from service.fair_queue import Batch
from tessera.windows import Arrays


@dataclass(slots=True)
class StackedBatch:
    """A batch with its inputs in one piece each."""

    batch: Batch
    inputs: Arrays

    @classmethod
    def of(cls, batch: Batch) -> StackedBatch:
        """Stack the inputs of `batch`; of a single slice they are taken as they are."""
        parts = [part.inputs for part in batch.slices]
        if len(parts) == 1:
            return cls(batch, parts[0])
        return cls(batch, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def halves(batch: Batch) -> list[Batch]:
    """The same windows, at least two, as two batches."""
    left, right = Batch(batch.model, batch.key), Batch(batch.model, batch.key)
    room = batch.windows // 2
    for part in batch.slices:
        if part.count <= room:
            left.add(part)
            room -= part.count
            continue
        if room:
            left.add(part.split(room))
            room = 0
        right.add(part)
    return [left, right]


class SharedTime:
    """Seconds of a device that several batches share: while n of them run, each counts for an n-th."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._seconds = 0.0
        self._last = 0.0

    def begin(self, now: float) -> float:
        """A batch begins; give what comes back to `end`."""
        with self._lock:
            self._advance(now)
            self._running += 1
            return self._seconds

    def end(self, now: float, begun: float) -> float:
        """A batch ends; what it took of the device, in seconds."""
        with self._lock:
            self._advance(now)
            self._running -= 1
            return self._seconds - begun

    def _advance(self, now: float) -> None:
        if self._running:
            self._seconds += (now - self._last) / self._running
        self._last = now
