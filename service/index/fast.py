"""The same answers as `plain.py`, by compiled kernels: blocks that cannot be among the best are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.index import compiled
from service.index.bitmaps import Bitmap
from service.index.query import KINDS, SLACK, UNITS, PooledQuery, SegmentQuery
from service.index.space import FlatCodes

if TYPE_CHECKING:
    from service.index.part import Part

BLOCK = compiled.BLOCK
LANES = compiled.LANES
_SHARED = 1 << 17
"""Entries left to scan from which it pays to share them between threads."""

_HEAVY, _TOGETHER = 0.25, 5.0
"""Queries that have to scan more than this share of a part scan together, if it is this many parts in all."""

_WORST, _HIGHEST = np.float32(-np.inf), np.float32(np.inf)

AnyQuery: TypeAlias = PooledQuery | SegmentQuery
Best: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
Scan: TypeAlias = "Callable[[int, int, Heap], None]"
"""Offers the rows of blocks [first, last) to a heap."""


def nearest_anchors(codes: FlatCodes, products: NDArray[np.float32]) -> NDArray[np.int64]:
    """The anchor of the highest cosine for each entry, [n]; `codes` [n, width], `products` [K, M]."""
    nearest = np.empty(len(codes), np.int64)
    compiled.nearest_anchors(codes, products, nearest)
    return nearest


def best_rows(part: Part, query: AnyQuery, mask: Bitmap, count: int, pool: Executor | None = None) -> Best:
    """Scores and rows of the best `count` rows of `mask`, best first, equal ones in the order of their ranks.

    Much work is shared between the threads of `pool`.
    """
    heap = Heap.of(min(count, len(part)))
    if isinstance(query, PooledQuery):
        probe = _probed(part, query, mask, heap)
        scan, work = _pooled_scan(part, probe, mask), probe.work
    else:
        bounds = np.full(len(part.blocks.anchors), _HIGHEST)
        _leave_out(part, mask, bounds)
        scan, work = _segment_scan(part, query, mask, bounds), _entries(part, bounds, heap)
    if pool is not None and work >= _SHARED:
        return _shared(part, pool, scan, heap)
    scan(0, len(part.blocks.anchors), heap)
    return heap.sorted(part)


def best_rows_of_many(part: Part, queries: Sequence[AnyQuery], mask: Bitmap, count: int) -> list[Best]:
    """The same for each query; those that have to scan much of the part do so together."""
    probes: list[_Probe] = []
    for query in queries:
        if not isinstance(query, PooledQuery):
            return [best_rows(part, query, mask, count) for query in queries]
        probes.append(_probed(part, query, mask, Heap.of(min(count, len(part)))))
    entries = len(part.weights)
    heavy = [probe for probe in probes if probe.work > entries * _HEAVY]
    for first in range(0, len(heavy), LANES):
        group = heavy[first : first + LANES]
        if sum(probe.work for probe in group) > entries * _TOGETHER:
            _scan_together(part, group, mask)
            for probe in group:
                probe.work = 0
    for probe in probes:
        if probe.work:
            _pooled_scan(part, probe, mask)(0, len(part.blocks.anchors), probe.heap)
    return [probe.heap.sorted(part) for probe in probes]


@dataclass
class Heap:
    """The best rows so far, as the kernels keep them: the first `found` of both arrays, the worst on top."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    found: int = 0

    @classmethod
    def of(cls, size: int) -> Heap:
        """An empty one."""
        return cls(np.full(size, _WORST), np.zeros(size, np.int64))

    @property
    def bar(self) -> np.float32:
        """What a score must reach."""
        return np.float32(self.scores[0]) if self.found == len(self.scores) else _WORST

    def copy(self) -> Heap:
        """Another of the same rows."""
        return Heap(self.scores.copy(), self.rows.copy(), self.found)

    def sorted(self, part: Part) -> Best:
        """The best first."""
        return _sorted(part, self.scores[: self.found], self.rows[: self.found])


@dataclass
class _Probe:
    """A query whose most promising blocks were scanned, and the entries of the others that may be among the best."""

    query: PooledQuery
    bounds: NDArray[np.float32]
    heap: Heap
    work: int


def _probed(part: Part, query: PooledQuery, mask: Bitmap, heap: Heap) -> _Probe:
    blocks = part.blocks
    cosines = np.append(query.dots[part.anchor_codes].sum(axis=1) * part.anchor_weights, 0.0)
    sines = np.sqrt(np.maximum(1.0 - cosines * cosines, 0.0))
    bounds = np.empty(len(blocks.anchors), np.float32)
    compiled.bound_blocks(blocks.anchors, blocks.edges, cosines, sines, bounds)
    bounds += SLACK
    _leave_out(part, mask, bounds)
    heap.found = compiled.probe_blocks(
        *_arrays(part), bounds, query.tables, KINDS, UNITS, mask, heap.scores, heap.rows
    )
    return _Probe(query, bounds, heap, _entries(part, bounds, heap))


def _arrays(part: Part) -> Any:
    blocks = part.blocks
    return part.codes, part.weights, part.firsts, part.ranks, blocks.widths, blocks.starts, blocks.entries


def _pooled_scan(part: Part, probe: _Probe, mask: Bitmap) -> Scan:
    arrays: Any = (*_arrays(part), probe.bounds, probe.query.tables, KINDS, UNITS, mask)

    def scan(first: int, last: int, heap: Heap) -> None:
        heap.found = compiled.scan_blocks(*arrays, first, last, heap.scores, heap.rows, heap.found)

    return scan


def _scan_together(part: Part, probes: Sequence[_Probe], mask: Bitmap) -> None:
    bounds = np.stack([probe.bounds for probe in probes])
    tables = np.stack([probe.query.tables for probe in probes])
    lanes = np.zeros((*tables.shape[1:], LANES), np.int32)
    lanes[:, :, : len(probes)] = np.moveaxis(tables, 0, 2)
    scores = np.stack([probe.heap.scores for probe in probes])
    rows = np.stack([probe.heap.rows for probe in probes])
    counts = np.array([probe.heap.found for probe in probes])
    compiled.scan_together(*_arrays(part), bounds, tables, lanes, KINDS, UNITS, mask, scores, rows, counts)
    for lane, probe in enumerate(probes):
        probe.heap = Heap(scores[lane], rows[lane], int(counts[lane]))


def _leave_out(part: Part, mask: Bitmap, bounds: NDArray[np.float32]) -> None:
    """Bound blocks that have no rows of `mask` below all scores, where those rows are few."""
    blocks = part.blocks
    words = mask[: len(mask) // 8 * 8].view(np.uint64)
    if np.count_nonzero(words) * 2 > len(bounds):
        return
    rows = 8 * np.flatnonzero(mask)
    starts = part.firsts[blocks.entries[:-1]]
    edges = np.zeros(len(bounds) + 1, np.int64)
    np.add.at(edges, np.searchsorted(starts, rows, side="right") - 1, 1)
    np.add.at(edges, np.searchsorted(starts, rows + 7, side="right"), -1)
    bounds[np.cumsum(edges[:-1]) == 0] = compiled.DONE


def _entries(part: Part, bounds: NDArray[np.float32], heap: Heap) -> int:
    """How many entries may still be among the best."""
    sizes = np.diff(part.blocks.entries)
    return int(sizes[(bounds >= heap.bar) & (bounds > compiled.DONE)].sum())


def _segment_scan(part: Part, query: SegmentQuery, mask: Bitmap, bounds: NDArray[np.float32]) -> Scan:
    blocks, space = part.blocks, query.space

    def scan(first: int, last: int, heap: Heap) -> None:
        heap.found = compiled.scan_segments(
            part.codes, part.firsts, part.ranks, blocks.widths, blocks.starts, blocks.entries, bounds,
            space.levels, query.likeness, query.dots, space.squares, space.products, query.span, mask, first, last,
            heap.scores, heap.rows, heap.found,
        )  # fmt: skip

    return scan


def _shared(part: Part, pool: Executor, scan: Scan, heap: Heap) -> Best:
    """Every thread goes on from the same heap; what they found is merged."""
    entries = part.blocks.entries
    cuts = np.searchsorted(entries, np.linspace(0, entries[-1], 2 * _threads(pool) + 1))

    def share(first: int, last: int) -> Heap:
        own = heap.copy()
        scan(first, last, own)
        return own

    shares = list(pool.map(share, cuts[:-1].tolist(), cuts[1:].tolist()))
    scores = np.concatenate([own.scores[: own.found] for own in shares])
    rows = np.concatenate([own.rows[: own.found] for own in shares])
    _, first = np.unique(rows, return_index=True)
    best_scores, best = _sorted(part, scores[first], rows[first])
    return best_scores[: len(heap.scores)], best[: len(heap.scores)]


def _threads(pool: Executor) -> int:
    return int(getattr(pool, "_max_workers", 1))


def _sorted(part: Part, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Best:
    order = np.lexsort((part.ranks[rows], -scores))
    return scores[order], rows[order]
