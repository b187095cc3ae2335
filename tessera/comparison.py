"""Counts how often two computations of the same codes differ, and how sure those codes were.

P positions (segments, or clips), L codes a position, Q channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tessera.manifest import Comparison

Outputs = Mapping[str, NDArray[np.generic]]
Names = tuple[str, str, str, str]

SEGMENTS: Names = ("codes", "margins", "embeddings", "latents")
CLIP: Names = ("clip_code", "clip_margin", "clip_embedding", "clip_latent")

MOST_MARGINS = 200
"""Of how many differing codes the margins are kept, the largest first."""


class Tally:
    """Adds up what batches of outputs of a codes graph have in common."""

    def __init__(self, depth: int = 1) -> None:
        """`depth` codes of a residual quantiser count as one: behind one that differs, all are of another rest."""
        self._depth = depth
        self._codes = 0
        self._margins: list[float] = []
        self._embedding = self._latent = 0.0
        self.largest_latent = 0.0

    def add(self, expected: Outputs, actual: Outputs) -> None:
        """Compare outputs by name; clip codes too, where there are such. Margins are the expected ones."""
        self._add(expected, actual, SEGMENTS)
        if CLIP[0] in expected:
            self._add(expected, actual, CLIP)

    def result(self) -> Comparison:
        """What came of all batches."""
        margins = sorted(self._margins, reverse=True)
        return Comparison(
            codes=self._codes,
            mismatches=len(margins),
            largest_margin=margins[0] if margins else 0.0,
            mean_margin=float(np.mean(margins)) if margins else 0.0,
            margins=tuple(float(f"{margin:.3g}") for margin in margins[:MOST_MARGINS]),
            max_abs_embedding=self._embedding,
            max_abs_latent=self._latent,
        )

    def _add(self, expected: Outputs, actual: Outputs, names: Names) -> None:
        codes, margins, embeddings, latents = names
        if expected[codes].shape != actual[codes].shape:
            raise ValueError(f"{codes} of shape {actual[codes].shape}, expected {expected[codes].shape}")
        levels = expected[codes].shape[-1]
        differ = (expected[codes] != actual[codes]).reshape(-1, levels // self._depth, self._depth)
        first = differ.argmax(axis=-1)[..., None]
        own = np.take_along_axis(expected[margins].reshape(differ.shape), first, axis=-1)[..., 0]
        differs = differ.any(axis=-1)
        self._codes += differs.size
        self._margins += own[differs].astype(float).tolist()
        agree = ~(expected[codes] != actual[codes]).any(axis=-1)
        self._embedding = max(
            self._embedding, largest_difference(expected[embeddings][agree], actual[embeddings][agree])
        )
        self._latent = max(self._latent, largest_difference(expected[latents], actual[latents]))
        self.largest_latent = max(self.largest_latent, float(np.abs(expected[latents]).max(initial=0.0)))


def largest_difference(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Infinite for other shapes, and where either is not a number."""
    if expected.shape != actual.shape:
        return float("inf")
    difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
