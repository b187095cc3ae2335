"""How far two computations of the same codes may be apart, and when they are not the same model.

Two nearest codes can be a rounding error apart: there a code may differ, and nowhere else. Half precision is not the
model but a variant of it, whose agreement is measured and has to be good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.comparison import Array, largest_difference
from tessera.manifest import Comparison, Precision

EPSILON = 2e-4
"""Largest margin at which a code may differ, as a share of the spread of the codebook."""

HALF_EPSILON = 5e-2
"""As `EPSILON`, in half precision."""

ROUNDING = 1e-6
"""Largest error of a distance, as a share of the length of a latent: what float32 itself makes uncertain."""

TOLERANCE = 1e-3
"""Largest difference of a latent, as a share of the largest; of a feature, of the largest or of one."""

HALF_TOLERANCE = 2e-2
"""As `TOLERANCE`, of a feature, in half precision."""

HALF_LATENT = 1.0
"""As `TOLERANCE`, of a latent, in half precision: of features unlike any other, those lie far off; the code counts."""

EXACT = 1e-5
"""Largest difference of the embeddings of equal codes, as a share of the largest: they are rows of one table."""

TIES = 0.01
"""The largest share of codes that may be ties."""

HALF_AGREEMENT = 0.95
"""The least share of equal codes with which a graph of half precision is worth a bundle."""


def epsilon_of(precision: Precision, spread: float, longest: float) -> float:
    """The margin below which codes may differ, of codebooks with a `spread` and latents as long as `longest`."""
    return max((EPSILON if precision == "fp32" else HALF_EPSILON) * spread, ROUNDING * longest)


def few(differ: int, of: int, share: float = TIES) -> bool:
    """Whether so many are at most that share, of a handful at most one."""
    return differ <= max(1.0, share * of)


@dataclass(frozen=True)
class Rule:
    """What is asked of two computations by graphs of `precision`, whose margins are uncertain by `epsilon`."""

    epsilon: float
    precision: Precision = "fp32"

    def fault(self, found: Comparison) -> str | None:
        """What is wrong with `found`, segments, clips and levels each for themselves; None if nothing is."""
        for name, part in (found.parts or {"": found}).items():
            if not self._fine(part):
                where = f" ({name})" if name else ""
                return (
                    f"{part.mismatches} of {part.codes} codes differ{where}, with margins up to "
                    f"{part.largest_margin:.2g} (allowed: below {self.epsilon:.2g}), other margins by up to "
                    f"{part.max_abs_margin:.2g}, latents by up to {part.max_abs_latent:.2g}, embeddings of equal "
                    f"codes by up to {part.max_abs_embedding:.2g}"
                )
        return None

    def _fine(self, part: Comparison) -> bool:
        whole = self.precision == "fp32"
        share, tolerance = (TIES, TOLERANCE) if whole else (1 - HALF_AGREEMENT, HALF_LATENT)
        return (
            few(part.mismatches, part.codes, share)
            and part.largest_margin < self.epsilon
            and part.max_abs_margin < self.epsilon
            and part.max_abs_latent <= tolerance * part.largest_latent
            and part.max_abs_embedding <= EXACT * part.largest_embedding
        )


@dataclass(frozen=True)
class Allowed:
    """How far a feature may be off: a share of the largest one, and one `step` of a backbone that rounds.

    At the edge between two whole numbers, runtimes may differ by one; hardly any feature lies there.
    """

    share: float = TOLERANCE
    step: float = 0.0

    @classmethod
    def of(cls, step: float | None, precision: Precision) -> Allowed:
        """For a backbone with weights of `precision`."""
        return cls(TOLERANCE if precision == "fp32" else HALF_TOLERANCE, step or 0.0)

    def stepped(self, expected: Array, actual: Array) -> int | None:
        """How many features are off by a step; None where one is by more than that, or is no number."""
        plain = self.share * max(1.0, float(np.abs(expected).max(initial=0.0)))
        if not largest_difference(expected, actual) <= plain + self.step:
            return None
        return int((np.abs(expected.astype(np.float64) - actual.astype(np.float64)) > plain).sum())
