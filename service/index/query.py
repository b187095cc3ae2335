"""What a query is to the kernels: tables over the K flat codes, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.index.space import LARGEST_WIDTH, CodeSpace, Floats

SLACK = np.float32(1e-4)
"""Added to bounds: more than rounding can make of a score."""

_WIDTHS = (16, 128, 1024, LARGEST_WIDTH)
_BITS = (26, 23, 20, 18)
"""Sums of so many entries of at most 2**bits stay below 2**30."""

KINDS = np.searchsorted(_WIDTHS, np.arange(LARGEST_WIDTH + 1)).astype(np.int64)
"""Which of the tables is for entries of each width."""

UNITS = np.array([2.0**-bits for bits in _BITS], np.float32)
"""What one is worth in each table."""

SEGMENT_UNIT = 2.0**20
"""Steps of one in the cosine of a segment."""


@dataclass(frozen=True, eq=False)
class PooledQuery:
    """Cosine with the mean embedding: the sum of table entries, times the weight of the clip."""

    dots: Floats  # [K]
    tables: NDArray[np.int32]  # [len(UNITS), K]

    @classmethod
    def of(cls, space: CodeSpace, vector: NDArray[np.floating]) -> PooledQuery:
        """Raises ValueError as `CodeSpace.table`."""
        dots = space.table(vector)
        steps = np.array([[2.0**bits] for bits in _BITS])
        return cls(dots, np.rint(dots * steps).astype(np.int32))


@dataclass(frozen=True, eq=False)
class SegmentQuery:
    """The best stretch of `span` consecutive segments, or of all where there are fewer: the mean of their cosines."""

    space: CodeSpace
    dots: Floats  # [K]
    likeness: NDArray[np.int32]  # [K], of a single level
    span: int

    @classmethod
    def of(cls, space: CodeSpace, vector: NDArray[np.floating], span: int) -> SegmentQuery:
        """Raises ValueError as `CodeSpace.table`, and for a span below one."""
        if span < 1:
            raise ValueError("a span is at least one segment")
        dots = space.table(vector)
        return cls(space, dots, steps(dots, space.squares).astype(np.int32), span)


def steps(dots: Floats, squares: Floats) -> NDArray[np.int64]:
    """Cosines in steps of one over `SEGMENT_UNIT`, of dot products and squared lengths; zero without length."""
    lengths = np.sqrt(np.maximum(squares, 0.0))
    cosines = np.divide(dots, lengths, out=np.zeros_like(dots), where=squares > 1e-12)
    return np.rint(cosines * SEGMENT_UNIT).astype(np.int64)
