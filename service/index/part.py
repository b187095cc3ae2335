"""Items in arrays that never change: clips of equal codes are one entry, entries of like codes lie side by side.

E entries, R rows (items), B blocks, M anchors, L levels. An entry is a clip's flat codes in the order of time; its rows
are the items that have them, in the order of their ids. Entries are sorted by the anchor that is nearest, by their
width, and by the angle between both; a block is up to 128 of one anchor and width, with the least and the greatest
of those angles, which is all that a query needs to leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index.bitmaps import Bitmap, packed, unpacked
from service.index.kernels import BLOCK, nearest_anchors
from service.index.space import CodeSpace, FlatCodes

_ANCHORS = 256
_ROUNDING = 1e-3
"""Of an angle, in radians: weights are float32, and the cosine of a small angle says little about it."""

_STEADY = 64.0
"""Width times weight of an entry, at most: beyond it the rounding of tables could lift a score over its bound."""


class Rows(NamedTuple):
    """Items on their way into a part: arrays over R rows, `codes` one row after the other."""

    keys: NDArray[np.int64]
    ranks: NDArray[np.uint32]
    """Places of the items in the order of their ids, among these items."""
    modalities: NDArray[np.uint8]
    weights: NDArray[np.float32]
    widths: NDArray[np.int64]
    codes: FlatCodes


class Blocks(NamedTuple):
    """Arrays over B blocks."""

    anchors: NDArray[np.int64]
    widths: NDArray[np.int64]
    """Flat codes of each entry."""
    starts: NDArray[np.int64]
    """Where the codes of the first entry begin."""
    entries: NDArray[np.int64]
    """The first entry of each block, and behind the last one E."""
    edges: NDArray[np.float32]
    """[B, 4]: cosine and sine of the least angle to the anchor, then of the greatest."""


@dataclass(frozen=True, eq=False)
class Part:
    """See the head of this file."""

    codes: FlatCodes
    weights: NDArray[np.float32]  # [E]
    firsts: NDArray[np.uint32]  # [E + 1]
    keys: NDArray[np.uint32]  # [R]
    ranks: NDArray[np.uint32]  # [R]
    modalities: NDArray[np.uint8]  # [R]
    by_key: NDArray[np.uint32]  # [R]
    blocks: Blocks
    anchor_codes: NDArray[np.int64]  # [M, L]
    anchor_weights: NDArray[np.float64]  # [M]
    masks: dict[frozenset[int], Bitmap] = field(default_factory=dict)
    """Rows of some modalities, as asked for before."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def last_key(self) -> int:
        """The highest of the keys."""
        return int(self.keys.max())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays: list[NDArray[Any]] = [
            self.codes, self.weights, self.firsts, self.keys, self.ranks, self.modalities, self.by_key,
            self.anchor_codes, self.anchor_weights, *self.blocks, *self.masks.values(),
        ]  # fmt: skip
        return sum(array.nbytes for array in arrays)

    def rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of those of `keys` that are here."""
        if not len(self):
            return np.zeros(0, np.int64)
        low, high = np.zeros(len(keys), np.int64), np.full(len(keys), len(self) - 1)
        # Not np.searchsorted, whose `sorter` becomes a copy of eight bytes a row each time.
        for _ in range(len(self).bit_length()):
            middle = (low + high) // 2
            above = self.keys[self.by_key[middle]] < keys
            low, high = np.where(above, np.minimum(middle + 1, high), low), np.where(above, high, middle)
        rows = self.by_key[low].astype(np.int64)
        found: NDArray[np.int64] = rows[self.keys[rows] == keys]
        return found

    def modality_mask(self, modalities: frozenset[int]) -> Bitmap:
        """The rows of these modalities."""
        mask = self.masks.get(modalities)
        if mask is None:
            mask = self.masks[modalities] = packed(np.isin(self.modalities, list(modalities)))
        return mask

    def entry_of(self, row: int) -> int:
        """The entry of a row."""
        return int(np.searchsorted(self.firsts, row, side="right")) - 1

    def codes_of(self, entry: int) -> FlatCodes:
        """The flat codes of an entry."""
        block = int(np.searchsorted(self.blocks.entries, entry, side="right")) - 1
        width = int(self.blocks.widths[block])
        start = int(self.blocks.starts[block]) + (entry - int(self.blocks.entries[block])) * width
        return self.codes[start : start + width]

    def rows(self, alive: Bitmap) -> tuple[Rows, NDArray[np.int64]]:
        """The items that are alive, to be put into another part, and which rows those are."""
        kept = np.flatnonzero(unpacked(alive, len(self)))
        entry = np.repeat(np.arange(len(self.weights)), np.diff(self.firsts))[kept]
        sizes = np.diff(self.blocks.entries)
        widths = np.repeat(self.blocks.widths, sizes)
        starts = np.cumsum(widths) - widths
        return Rows(
            self.keys[kept].astype(np.int64),
            self.ranks[kept],
            self.modalities[kept],
            self.weights[entry],
            widths[entry],
            self.codes[_spread(starts[entry], widths[entry])],
        ), kept


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


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of `parts`; their ranks have to be set anew."""
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _spread(starts: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(widths)
    places: NDArray[np.int64] = np.repeat(starts - (ends - widths), widths)
    return places + np.arange(len(places))


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
    places = _spread(starts, widths)
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
