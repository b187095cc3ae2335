"""Independent random streams of a clip, each found by name: equal seeds give equal numbers in any process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

SEED_LIMIT = 2**32
"""A `SeedSequence` splits larger integers into words, where two different tuples could collide."""


class Stream(IntEnum):
    """What a random stream decides."""

    LAYOUT = 0
    CAPTION = 1
    NUISANCE = 2
    SOUND = 3
    RECORDING = 4
    PICTURE = 5
    PLACE = 6
    CAMERA = 7
    ORDER = 8


@dataclass(frozen=True, slots=True)
class Seed:
    """The root of all randomness of one clip: (world seed, split, index), each below 2**32."""

    world: int
    split: int
    index: int

    def stream(self, name: Stream, *path: int) -> np.random.Generator:
        """A fresh generator for one purpose; streams of different names or paths are independent."""
        entropy = [self.world, self.split, self.index]
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(name, *path)))
