"""Features that go through a codes graph to be checked: recorded ones, and random ones that reach many codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from export.graphs import CodesGraph
from export.settings import SEGMENTS_COMPARED
from tessera import noise
from tessera.samples import Sample

SHAPES = ((1, 1), (1, 10), (2, 7), (3, 1), (8, 10), (17, 3))
"""Batch and time of the first random features; all others come in batches of `_BULK`."""

_BULK = (64, 10)
_SAMPLE_WINDOWS, _SAMPLE_TIME = 12, 10
_SAMPLE_BYTES = 5_000_000
# Of how many times as many windows those of the sample are chosen.
_CHOICE = 6


@dataclass(frozen=True)
class Features:
    """Recorded features [B, T, ...] of a modality, and random ones that are like them or lead further."""

    recorded: tuple[Tensor, ...]
    segments: int = SEGMENTS_COMPARED

    def batches(self) -> Iterator[Tensor]:
        """All recorded ones, random ones of every shape, and more until there are `segments` random ones."""
        yield from self.recorded
        seen = 0
        for number, (batch, time) in enumerate(_shapes()):
            if seen >= self.segments and number >= len(SHAPES):
                return
            seen += batch * time
            yield self.random(batch, time, number)

    def random(self, batch: int, time: int, seed: int) -> Tensor:
        """[batch, time, ...]: by turns noise of the same mean and spread, and mixtures of recorded ones."""
        draw = noise.mixed if seed % 2 else noise.spread_like
        return torch.from_numpy(draw(self._segments, batch, time, seed))

    def sample(self, module: CodesGraph, noise_features: Tensor) -> Sample:
        """Windows for the bundle that reach many codes, with what `module` makes of them; a few megabytes of maps."""
        window = _SAMPLE_TIME * self._segments[0].nbytes
        count = max(1, min(_SAMPLE_WINDOWS, _SAMPLE_BYTES // window))
        pool = torch.from_numpy(noise.mixed(self._segments, _CHOICE * count, _SAMPLE_TIME, seed=0))
        chosen = pool[_widest(module.by_torch(pool)["codes"], count)]
        return Sample(chosen.numpy(), module.by_torch(chosen), noise_features.numpy())

    @cached_property
    def _segments(self) -> noise.Features:
        return torch.cat([features.flatten(0, 1) for features in self.recorded]).numpy()


def _shapes() -> Iterator[tuple[int, int]]:
    yield from SHAPES
    while True:
        yield _BULK


def _widest(codes: np.ndarray, count: int) -> list[int]:
    """`count` windows of `codes` [N, T, L], each the one that adds most codes to those before it."""
    reached = [
        {(level, code) for row in window for level, code in enumerate(row.tolist())} for window in codes
    ]
    chosen: list[int] = []
    seen: set[tuple[int, int]] = set()
    for _ in range(count):
        rest = (index for index in range(len(reached)) if index not in chosen)
        best = max(rest, key=lambda index: len(reached[index] - seen))
        chosen.append(best)
        seen |= reached[best]
    return chosen
