"""The kernels in numpy, for machines without numba: every entry is scored, the answers are the same to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.index.bitmaps import Bitmap, unpacked
from service.index.query import KINDS, SEGMENT_UNIT, UNITS, PooledQuery, SegmentQuery, steps
from service.index.space import CodeSpace, FlatCodes

if TYPE_CHECKING:
    from service.index.part import Part

BLOCK = 128
"""Entries of a block, at most."""


def nearest_anchors(codes: FlatCodes, products: NDArray[np.float32]) -> NDArray[np.int64]:
    """The anchor of the highest cosine for each entry, [n]; `codes` [n, width], `products` [K, M]."""
    nearest = np.empty(len(codes), np.int64)
    for first in range(0, len(codes), 1024):
        part = codes[first : first + 1024]
        sums = products[part[:, 0]]
        for place in range(1, part.shape[1]):
            sums += products[part[:, place]]
        nearest[first : first + len(part)] = sums.argmax(axis=1)
    return nearest


def best_rows(
    part: Part, query: PooledQuery | SegmentQuery, mask: Bitmap, count: int, pool: Executor | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the best `count` rows of `mask`, best first, equal ones in the order of their ranks."""
    scores = _pooled(part, query) if isinstance(query, PooledQuery) else _segments(part, query)
    rows = np.flatnonzero(unpacked(mask, len(part)))
    found = np.repeat(scores, np.diff(part.firsts))[rows]
    if len(rows) > count:
        kept = found >= np.partition(found, -count)[-count]
        rows, found = rows[kept], found[kept]
    order = np.lexsort((part.ranks[rows], -found))[:count]
    return found[order], rows[order]


def best_rows_of_many(
    part: Part, queries: Sequence[PooledQuery | SegmentQuery], mask: Bitmap, count: int
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """The same for each query."""
    return [best_rows(part, query, mask, count) for query in queries]


def _entries_by_width(part: Part) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """For each width the entries that have it, and where their codes begin."""
    widths = np.repeat(part.blocks.widths, np.diff(part.blocks.entries))
    starts = np.cumsum(widths) - widths
    groups = [(int(width), np.flatnonzero(widths == width)) for width in np.unique(widths)]
    return [(width, entries, starts[entries]) for width, entries in groups]


def _pooled(part: Part, query: PooledQuery) -> NDArray[np.float32]:
    scores = np.empty(len(part.weights), np.float32)
    for width, entries, starts in _entries_by_width(part):
        table, unit = query.tables[KINDS[width]], UNITS[KINDS[width]]
        total = np.zeros(len(entries), np.int32)
        for place in range(width):
            total += table[part.codes[starts + place]]
        scores[entries] = total.astype(np.float32) * part.weights[entries] * unit
    return scores


def _segments(part: Part, query: SegmentQuery) -> NDArray[np.float32]:
    space, scores = query.space, np.empty(len(part.weights), np.float32)
    for width, entries, starts in _entries_by_width(part):
        codes = part.codes[starts[:, None] + np.arange(width)].reshape(len(entries), -1, space.levels)
        totals, taken = stretches(likenesses(space, query, codes), query.span)
        scores[entries] = (totals.max(axis=1) / (taken * SEGMENT_UNIT)).astype(np.float32)
    return scores


def likenesses(space: CodeSpace, query: SegmentQuery, codes: FlatCodes) -> NDArray[np.int64]:
    """The cosine of each segment of `codes` [n, N, L] with the query, in steps, [n, N]."""
    if space.levels == 1:
        return query.likeness[codes[:, :, 0]].astype(np.int64)
    dots, squares = np.zeros(codes.shape[:2]), np.zeros(codes.shape[:2])
    for level in range(space.levels):
        dots += query.dots[codes[:, :, level]]
        squares += space.squares[codes[:, :, level]]
        for other in range(level if space.depth > 1 else 0):
            squares += 2.0 * space.products[codes[:, :, other], codes[:, :, level]]
    return steps(dots, squares)


def stretches(likenesses: NDArray[np.int64], span: int) -> tuple[NDArray[np.int64], int]:
    """The sums of all stretches of `span` of N segments, [n, N - span + 1], and the segments of a stretch."""
    taken = min(span, likenesses.shape[1])
    totals = np.cumsum(likenesses, axis=1)
    totals[:, taken:] -= totals[:, :-taken].copy()
    return totals[:, taken - 1 :], taken
