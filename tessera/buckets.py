"""The batch sizes that a GPU sees: powers of two, so that there are few shapes to plan and to warm up.

Rows of a batch never see each other: a batch is filled with copies of its last row, whose answers are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LARGEST = 32
"""Windows in one run, at most; a larger batch takes several."""


def bucket(rows: int) -> int:
    """The size of the batch that `rows` >= 1 are filled up to."""
    return 1 << (rows - 1).bit_length()


def buckets(largest: int) -> tuple[int, ...]:
    """Every size up to `largest` >= 1."""
    return tuple(1 << power for power in range(largest.bit_length()))


def filled(array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    """`array` [N, ...] with its last row again, up to `rows`."""
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def spans(rows: int, largest: int) -> Iterator[slice]:
    """`rows` in runs of `largest`, the last of what is left."""
    return (slice(start, min(start + largest, rows)) for start in range(0, rows, largest))


def whole_spans(rows: int, largest: int) -> Iterator[slice]:
    """`rows` in runs that are buckets each, up to `largest`: where a row costs too much to be computed and dropped."""
    start = 0
    for size in reversed(buckets(largest)):
        while size <= rows - start:
            yield slice(start, start + size)
            start += size
