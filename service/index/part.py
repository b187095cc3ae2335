"""Items in arrays that never change: clips of equal codes are one entry, entries of like codes lie side by side.

E entries, R rows (items), B blocks, M anchors, L levels. An entry is a clip's flat codes in the order of time; its rows
are the items that have them, in the order of their ids. Entries are sorted by the anchor that is nearest, by their
width, and by the angle between both; a block is up to 128 of one anchor and width, with the least and the greatest
of those angles, which is all that a query needs to leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index.bitmaps import Bitmap, packed, unpacked
from service.index.rows import Rows, spread
from service.index.space import FlatCodes


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
            self.codes[spread(starts[entry], widths[entry])],
        ), kept
