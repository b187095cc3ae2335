"""Sets of rows as bits, eight rows a byte, the first in the lowest bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.uint8]


def full(rows: int) -> Bitmap:
    """All of `rows` rows."""
    return packed(np.ones(rows, bool))


def packed(rows: NDArray[np.bool_]) -> Bitmap:
    """The rows that are true."""
    return np.packbits(rows, bitorder="little")


def unpacked(bits: Bitmap, rows: int) -> NDArray[np.bool_]:
    """For each of `rows` rows whether it is in the set."""
    return np.unpackbits(bits, count=rows, bitorder="little").view(bool)


def without(bits: Bitmap, rows: NDArray[np.int64]) -> Bitmap:
    """A copy that does not have `rows`."""
    changed = bits.copy()
    np.bitwise_and.at(changed, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
    return changed


def count(bits: Bitmap) -> int:
    """How many rows are in the set."""
    return int(np.bitwise_count(bits).sum())
