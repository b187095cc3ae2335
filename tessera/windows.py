"""What crosses from decoding to the graphs: windows of consecutive segments.

A window holds the arrays of one run of a backbone graph without the batch axis. Windows of equal `key` may be
stacked into one batch; nothing is ever padded, so a clip's codes cannot depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Modality = Literal["audio", "video", "text"]
MODALITIES: tuple[Modality, ...] = ("audio", "video", "text")
Stage = Literal["media", "features"]
"""`media`: backbone, then codes graph. `features`: the codes graph alone."""

Arrays = dict[str, NDArray[Any]]
"""Inputs or outputs of a graph by name."""

WindowKey = tuple[Modality, Stage, tuple[tuple[str, tuple[int, ...]], ...]]


@dataclass(frozen=True, slots=True)
class Window:
    """Up to `TimeGrid.window_segments` consecutive segments of one clip."""

    modality: Modality
    inputs: dict[str, NDArray[np.generic]]
    segments: int
    stage: Stage = "media"

    @property
    def key(self) -> WindowKey:
        """Windows with equal keys can share a batch."""
        shapes = tuple((name, array.shape) for name, array in sorted(self.inputs.items()))
        return self.modality, self.stage, shapes


@dataclass(frozen=True, slots=True)
class WindowCodes:
    """What the graphs answer for one window. `T` segments, `L` levels, `Q` kept channels in all levels together.

    Where codes alone were asked for, the rest is None.
    """

    codes: NDArray[np.int64]  # [T, L]
    margins: NDArray[np.float32] | None = None  # [T, L]
    embeddings: NDArray[np.float32] | None = None  # [T, Q]
    latents: NDArray[np.float32] | None = None  # [T, Q]
    clip_code: NDArray[np.int64] | None = None  # [L]
    clip_margin: NDArray[np.float32] | None = None  # [L]
    clip_embedding: NDArray[np.float32] | None = None  # [Q]
    clip_latent: NDArray[np.float32] | None = None  # [Q]

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[Any]], row: int) -> Self:
        """Those of row `row` of a batch."""
        return cls(**{name: array[row] for name, array in outputs.items()})
