"""How a part is made of items: equal clips become one entry, entries are put in order and cut into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.index.kernels import BLOCK, nearest_anchors
from service.index.part import Blocks, Part
from service.index.rows import Rows, spread
from service.index.space import CodeSpace, FlatCodes

_ANCHORS = 256
_ROUNDING = 1e-3
"""Of an angle, in radians: weights are float32, and the cosine of a small angle says little about it."""

_STEADY = 64.0
"""Width times weight of an entry, at most: beyond it the rounding of tables could lift a score over its bound."""


def build(space: CodeSpace, rows: Rows) -> Part:
    """A part of `rows`, whose keys are below 2**32.

    Equal codes must come with equal weights, and ranks must be different.
    """
    entry_of_row, entries, widths = _distinct(rows)
    weights = rows.weights[entries]
    starts = np.cumsum(rows.widths) - rows.widths
    anchor_codes = _common_segments(space, rows, starts[entries], widths)
    groups = [(int(width), np.flatnonzero(widths == width)) for width in np.unique(widths)]
    matrices = [rows.codes[starts[entries[group]][:, None] + np.arange(width)] for width, group in groups]
    anchor_weights = space.weights(anchor_codes.astype(np.uint16)).astype(np.float64)
    anchor_vectors = anchor_weights[:, None] * space.rows[anchor_codes].sum(axis=1)
    nearest, angles = np.zeros(len(entries), np.int64), np.zeros(len(entries))
    products = space.rows @ anchor_vectors.T
    for (width, group), matrix in zip(groups, matrices, strict=True):
        nearest[group] = nearest_anchors(matrix, products.astype(np.float32))
        dots = products[matrix[:, 0], nearest[group]]
        for place in range(1, matrix.shape[1]):
            dots += products[matrix[:, place], nearest[group]]
        angles[group] = np.arccos(np.clip(dots * weights[group], -1.0, 1.0))
        nearest[group[width * weights[group] > _STEADY]] = len(anchor_codes)
    order = np.lexsort((angles, widths, nearest))
    codes, blocks = _laid_out(
        order, nearest[order], widths[order], angles[order], groups, matrices, len(anchor_codes)
    )
    place_of_entry = np.empty(len(order), np.int64)
    place_of_entry[order] = np.arange(len(order))
    row_entry = place_of_entry[entry_of_row]
    row_order = np.lexsort((rows.ranks, row_entry))
    counts = np.bincount(row_entry, minlength=len(order))
    keys = rows.keys[row_order].astype(np.uint32)
    return Part(
        codes=codes,
        weights=weights[order],
        firsts=np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        keys=keys,
        ranks=rows.ranks[row_order].astype(np.uint32),
        modalities=rows.modalities[row_order],
        by_key=np.argsort(keys, kind="stable").astype(np.uint32),
        blocks=blocks,
        anchor_codes=anchor_codes,
        anchor_weights=anchor_weights,
    )


def _distinct(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each row the number of its entry; for each entry a row that has its codes, and its width.

    Equal codes meet by a hash, and are then compared: two codes of one hash are two entries.
    """
    starts = np.cumsum(rows.widths) - rows.widths
    entry_of_row = np.empty(len(rows.keys), np.int64)
    entries, widths, number = [], [], 0
    for width in np.unique(rows.widths):
        group = np.flatnonzero(rows.widths == width)
        hashes = np.zeros(len(group), np.uint64)
        for place in range(int(width)):
            hashes = (hashes + rows.codes[starts[group] + place] + np.uint64(1)) * np.uint64(
                0x9E3779B97F4A7C15
            )
            hashes ^= hashes >> np.uint64(29)
        group = group[np.argsort(hashes, kind="stable")]
        differs = np.zeros(len(group), bool)
        differs[0] = True
        for place in range(int(width)):
            column = rows.codes[starts[group] + place]
            differs[1:] |= column[1:] != column[:-1]
        entry_of_row[group] = number + np.cumsum(differs) - 1
        entries.append(group[differs])
        widths.append(np.full(int(differs.sum()), width))
        number += len(entries[-1])
    return entry_of_row, np.concatenate(entries), np.concatenate(widths)


def _common_segments(
    space: CodeSpace, rows: Rows, starts: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The codes [M, L] that the entries' segments have most often: what entries are sorted by."""
    wanted = min(_ANCHORS, 1 + len(starts) // 16)
    places = spread(starts, widths)
    segments = rows.codes[places].reshape(-1, space.levels).astype(np.int64)
    names = segments[:, 0]
    for level in range(1, space.levels):
        names = names * space.size + segments[:, level]
    _, first, counts = np.unique(names, return_index=True, return_counts=True)
    return segments[first[np.argsort(-counts, kind="stable")[:wanted]]]


def _laid_out(
    order: NDArray[np.int64],
    anchors: NDArray[np.int64],
    widths: NDArray[np.int64],
    angles: NDArray[np.float64],
    groups: Sequence[tuple[int, NDArray[np.int64]]],
    matrices: Sequence[FlatCodes],
    unbounded: int,
) -> tuple[FlatCodes, Blocks]:
    count = len(order)
    changes = np.flatnonzero((np.diff(anchors) != 0) | (np.diff(widths) != 0)) + 1
    runs = np.concatenate([[0], changes, [count]])
    firsts = np.concatenate([np.arange(a, b, BLOCK) for a, b in pairwise(runs)])
    starts = np.cumsum(widths) - widths
    codes = np.empty(int(widths.sum()), np.uint16)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    for (width, group), matrix in zip(groups, matrices, strict=True):
        codes[starts[place[group]][:, None] + np.arange(width)] = matrix
    entries = np.concatenate([firsts, [count]])
    least = np.maximum(angles[firsts] - _ROUNDING, 0.0)
    greatest = np.minimum(angles[entries[1:] - 1] + _ROUNDING, np.pi)
    edges = np.stack([np.cos(least), np.sin(least), np.cos(greatest), np.sin(greatest)], axis=1)
    edges[anchors[firsts] == unbounded] = [2.0, 0.0, -2.0, 0.0]
    return codes, Blocks(anchors[firsts], widths[firsts], starts[firsts], entries, edges.astype(np.float32))
