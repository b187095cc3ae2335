"""Counts how often two computations of the same codes differ, and how sure those codes were.

P positions (segments, or clips), L codes a position, Q channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.manifest import Comparison

Array = NDArray[np.generic]
Outputs = Mapping[str, Array]
Names = tuple[str, str, str, str]

SEGMENTS: Names = ("codes", "margins", "embeddings", "latents")
CLIP: Names = ("clip_code", "clip_margin", "clip_embedding", "clip_latent")

MOST_MARGINS = 200
"""Of how many differing codes the margins are kept, the largest first."""


class Tally:
    """Adds up what batches of outputs of a codes graph have in common: segments, clips and levels apart."""

    def __init__(self, depth: int = 1) -> None:
        """`depth` codes of a residual quantiser count as one: behind one that differs, all are of another rest."""
        self._depth = depth
        self._parts: dict[str, _Part] = {}

    def add(self, expected: Outputs, actual: Outputs) -> None:
        """Compare outputs by name; clip codes too, where there are such."""
        for kind, names in (("segments", SEGMENTS), ("clips", CLIP)):
            if names[0] in expected:
                self._add(kind, [expected[name] for name in names], [actual[name] for name in names])

    def result(self) -> Comparison:
        """What came of all batches."""
        parts = {name: part.result() for name, part in self._parts.items()}
        margins = sorted((m for part in self._parts.values() for m in part.margins), reverse=True)
        return Comparison(
            codes=sum(part.codes for part in parts.values()),
            mismatches=len(margins),
            largest_margin=max(margins, default=0.0),
            mean_margin=float(np.mean(margins)) if margins else 0.0,
            margins=tuple(float(f"{margin:.3g}") for margin in margins[:MOST_MARGINS]),
            distinct=min((part.distinct for part in parts.values()), default=0),
            parts=parts if len(parts) > 1 else {},
            **{
                name: max((getattr(part, name) for part in parts.values()), default=0.0) for name in _EXTREMES
            },
        )

    def _add(self, kind: str, expected: list[Array], actual: list[Array]) -> None:
        if expected[0].shape != actual[0].shape:
            raise ValueError(f"codes of shape {actual[0].shape}, expected {expected[0].shape}")
        levels, depth = expected[0].shape[-1], self._depth
        agree = (expected[0] == actual[0]).all(axis=-1)
        extremes = {
            "max_abs_embedding": largest_difference(expected[2][agree], actual[2][agree]),
            "max_abs_latent": largest_difference(expected[3], actual[3]),
            "largest_embedding": float(np.abs(expected[2]).max(initial=0.0)),
            "largest_latent": float(np.abs(expected[3]).max(initial=0.0)),
        }
        for first in range(0, levels, depth):
            name = kind if levels == depth else f"{kind}, level {first // depth + 1}"
            own = slice(first, first + depth)
            part = self._parts.setdefault(name, _Part(depth))
            part.add(*(array[..., own].reshape(-1, depth) for array in (*expected[:2], *actual[:2])))
            part.note(extremes)


_EXTREMES = ("max_abs_margin", "max_abs_embedding", "max_abs_latent", "largest_embedding", "largest_latent")


class _Part:
    """The codes [P, depth] of one quantiser, of segments or of clips."""

    def __init__(self, depth: int) -> None:
        self.margins: list[float] = []
        self._codes = 0
        self._extremes: dict[str, Any] = dict.fromkeys(_EXTREMES, 0.0)
        self._seen: list[set[int]] = [set() for _ in range(depth)]

    def add(self, expected: Array, expected_margins: Array, actual: Array, actual_margins: Array) -> None:
        """The margin of a code that differs is the larger one of both sides: neither may have been sure of its own."""
        differ = expected != actual
        differs = differ.any(axis=-1)
        larger = np.maximum(expected_margins, actual_margins).astype(float)
        first = differ.argmax(axis=-1)[:, None]
        self.margins += np.nan_to_num(
            np.take_along_axis(larger, first, axis=-1)[differs, 0], nan=np.inf
        ).tolist()
        self._codes += len(expected)
        for seen, codes in zip(self._seen, expected.T, strict=True):
            seen.update(np.unique(codes).tolist())
        self.note(
            {"max_abs_margin": largest_difference(expected_margins[~differs], actual_margins[~differs])}
        )

    def note(self, extremes: Mapping[str, float]) -> None:
        """Keep what is larger than before."""
        for name, value in extremes.items():
            self._extremes[name] = max(self._extremes[name], value)

    def result(self) -> Comparison:
        return Comparison(
            codes=self._codes,
            mismatches=len(self.margins),
            largest_margin=max(self.margins, default=0.0),
            mean_margin=float(np.mean(self.margins)) if self.margins else 0.0,
            distinct=min(map(len, self._seen)),
            **self._extremes,
        )


def largest_difference(expected: Array, actual: Array) -> float:
    """Infinite for other shapes, and where either is not a number."""
    if expected.shape != actual.shape:
        return float("inf")
    difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
