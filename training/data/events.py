"""The vocabulary of the generated world: its events, and when one of them is heard or seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.floating[Any]]
"""Takes what arithmetic on `Floats` is typed as; the values stay float32."""
Sense = Literal["audio", "video"]
Presence = Literal["both", "audio", "video"]

EVENTS: tuple[str, ...] = (
    "siren",
    "bell",
    "rain",
    "engine",
    "footsteps",
    "bird",
    "telephone",
    "drum",
    "wind",
    "clock",
    "knock",
    "laughter",
    "dog",
    "cat",
    "thunder",
    "helicopter",
    "train",
    "sea",
    "frog",
    "cricket",
    "guitar",
    "flute",
    "piano",
    "glass",
    "typing",
    "drip",
    "fire",
    "chainsaw",
)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event going on from `onset` to `offset`, in seconds of the clip.

    `lag` is how many seconds the picture runs behind the sound (negative: ahead of it). `prominence` scales
    loudness and size: 1 for the primary event of a clip, less for a secondary one.
    """

    event: str
    modality: Presence
    onset: float
    offset: float
    lag: float = 0.0
    prominence: float = 1.0

    def interval(self, sense: Sense) -> tuple[float, float] | None:
        """Onset and offset in seconds as one sense perceives them; None where it perceives nothing."""
        if self.modality not in ("both", sense):
            return None
        shift = self.lag if sense == "video" else 0.0
        return self.onset + shift, self.offset + shift
