"""The same answers as `plain.py`, by compiled kernels: blocks that cannot be among the best are left out."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.index import compiled
from service.index.bitmaps import Bitmap
from service.index.query import KINDS, SLACK, UNITS, PooledQuery, SegmentQuery
from service.index.space import FlatCodes

if TYPE_CHECKING:
    from service.index.part import Part

BLOCK = compiled.BLOCK
_SHARED = 1 << 17
"""Entries left to scan from which it pays to share them between threads."""

_WORST = np.float32(-np.inf)


def nearest_anchors(codes: FlatCodes, products: NDArray[np.float32]) -> NDArray[np.int64]:
    """The anchor of the highest cosine for each entry, [n]; `codes` [n, width], `products` [K, M]."""
    nearest = np.empty(len(codes), np.int64)
    compiled.nearest_anchors(codes, products, nearest)
    return nearest


def best_rows(
    part: Part, query: PooledQuery | SegmentQuery, mask: Bitmap, count: int, pool: Executor | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the best `count` rows of `mask`, best first, equal ones in the order of their ranks.

    Much work is shared between the threads of `pool`.
    """
    count = min(count, len(part))
    scores, rows = np.full(count, _WORST), np.zeros(count, np.int64)
    if isinstance(query, PooledQuery):
        found, scan, work = _probed(part, query, mask, scores, rows)
    else:
        found, scan, work = 0, _segment_scan(part, query, mask), len(part.weights)
    blocks = len(part.blocks.anchors)
    if pool is None or work < _SHARED:
        found = scan(0, blocks, scores, rows, found)
        return _sorted(part, scores[:found], rows[:found])
    return _shared(part, pool, scan, scores, rows, found)


def _probed(
    part: Part, query: PooledQuery, mask: Bitmap, scores: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[int, Any, int]:
    """Scan the most promising blocks. Returns the rows found, the scan of the others, and their entries."""
    blocks = part.blocks
    cosines = np.append(query.dots[part.anchor_codes].sum(axis=1) * part.anchor_weights, 0.0)
    sines = np.sqrt(np.maximum(1.0 - cosines * cosines, 0.0))
    bounds = np.empty(len(blocks.anchors), np.float32)
    compiled.bound_blocks(blocks.anchors, blocks.edges, cosines, sines, bounds)
    bounds += SLACK
    arrays = (
        part.codes, part.weights, part.firsts, part.ranks, blocks.widths, blocks.starts, blocks.entries, bounds,
        query.tables, KINDS, UNITS, mask,
    )  # fmt: skip
    found = compiled.probe_blocks(*arrays, scores, rows)
    bar = scores[0] if found == len(scores) else _WORST
    work = int(np.diff(blocks.entries)[bounds >= bar].sum())

    def scan(first: int, last: int, scores: Any, rows: Any, found: int) -> int:
        return int(compiled.scan_blocks(*arrays, first, last, scores, rows, found))

    return found, scan, work


def _segment_scan(part: Part, query: SegmentQuery, mask: Bitmap) -> Any:
    blocks, space = part.blocks, query.space

    def scan(first: int, last: int, scores: Any, rows: Any, found: int) -> int:
        return int(
            compiled.scan_segments(
                part.codes, part.firsts, part.ranks, blocks.widths, blocks.starts, blocks.entries, space.levels,
                query.likeness, query.dots, space.squares, space.products, query.span, mask, first, last,
                scores, rows, found,
            )
        )  # fmt: skip

    return scan


def _shared(
    part: Part,
    pool: Executor,
    scan: Any,
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    found: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Every thread goes on from the same heap; what they found is merged."""
    entries = part.blocks.entries
    cuts = np.searchsorted(entries, np.linspace(0, entries[-1], 2 * _threads(pool) + 1))

    def share(first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        own_scores, own_rows = scores.copy(), rows.copy()
        held = scan(first, last, own_scores, own_rows, found)
        return own_scores[:held], own_rows[:held]

    shares = list(pool.map(share, cuts[:-1].tolist(), cuts[1:].tolist()))
    all_scores, all_rows = (np.concatenate(arrays) for arrays in zip(*shares, strict=True))
    _, first = np.unique(all_rows, return_index=True)
    best_scores, best = _sorted(part, all_scores[first], all_rows[first])
    return best_scores[: len(scores)], best[: len(scores)]


def _threads(pool: Executor) -> int:
    return int(getattr(pool, "_max_workers", 1))


def _sorted(
    part: Part, scores: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    order = np.lexsort((part.ranks[rows], -scores))
    return scores[order], rows[order]
