"""The codebook as retrieval sees it: flat codes, weights of clips, tables of a query.

N segments, L levels, Q kept channels of all quantisers together, K codes of all levels together. A flat code is a code
plus the sizes of the levels before its own, so that a clip is one row of N * L numbers below K, segment by segment.
All vectors are divided by the longest row of the codebook: cosines stay, and no entry of a table is beyond one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FlatCodes = NDArray[np.uint16]

LARGEST_WIDTH = 4096
"""Flat codes of the longest clip: sums of so many table entries are exact in 32 bits."""

_TINY = 1e-6
"""A sum of embeddings this short beside the longest row is rounding alone; its cosines are taken as zero."""


class CodeSpace:
    """The rows of a bundle's codebook, and what cosines with them need."""

    def __init__(self, codebook: Sequence[NDArray[np.floating]], depth: int = 1) -> None:
        """`codebook`: a table [size, kept channels] for each level, as `Bundle.codebook`; `depth` as in the manifest.

        Raises:
            ValueError: no rows or more than 65,536, or levels that cannot be groups of `depth`.
        """
        self.levels = len(codebook)
        self.depth = depth
        self.sizes = tuple(len(table) for table in codebook)
        if not self.sizes or not all(self.sizes) or sum(self.sizes) > 65_536 or self.levels % depth:
            raise ValueError("a codebook has 1 to 65,536 rows in all levels, in groups of `depth` levels")
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        tables = [np.asarray(table, np.float64) for table in codebook]
        longest = max(float(np.linalg.norm(table, axis=1).max()) for table in tables) or 1.0
        self._rows = [table / longest for table in tables]
        widths = [table.shape[1] for table in tables[::depth]]
        self._starts = [0, *np.cumsum(widths).tolist()]

    @property
    def size(self) -> int:
        """K, codes of all levels together."""
        return sum(self.sizes)

    @property
    def dim(self) -> int:
        """Q, the width of a pooled embedding."""
        return int(self._starts[-1])

    @cached_property
    def rows(self) -> Floats:
        """What each flat code adds to an embedding, [K, Q]."""
        rows = np.zeros((self.size, self.dim))
        for level, table in enumerate(self._rows):
            first = int(self.offsets[level])
            rows[first : first + len(table), self._channels(level)] = table
        return rows

    def flat(self, codes: NDArray[np.integer]) -> FlatCodes:
        """Codes [N, L] as one row of flat codes [N * L].

        Raises:
            ValueError: another number of levels, no segments, more than `LARGEST_WIDTH` codes, or one out of range.
        """
        if codes.ndim != 2 or codes.shape[1] != self.levels:
            raise ValueError(f"each segment has {self.levels} code(s), one per level")
        if not 1 <= codes.size <= LARGEST_WIDTH:
            raise ValueError(f"an item has 1 to {LARGEST_WIDTH} codes, not {codes.size}")
        if (codes < 0).any() or (codes >= np.array(self.sizes)).any():
            raise ValueError("a code is not in the codebook")
        return (codes + self.offsets).astype(np.uint16).ravel()

    def weights(self, codes: FlatCodes) -> NDArray[np.float32]:
        """What turns a sum of table entries into a cosine: one over the length of the sum of embeddings, [n].

        `codes`: clips of equal length [n, N * L]. Equal multisets of codes have equal weights. Zero stands for a sum of
        no length, whose cosine is taken as zero.
        """
        ordered = np.sort(codes, axis=1)
        weights = np.zeros(len(codes), np.float32)
        for first in range(0, len(codes), 4096):
            part = ordered[first : first + 4096]
            total = np.zeros((len(part), self.dim))
            for column in range(part.shape[1]):
                total += self.rows[part[:, column]]
            lengths = np.sqrt(np.einsum("nq,nq->n", total, total))
            some = lengths > _TINY
            weights[first : first + len(part)][some] = 1.0 / lengths[some]
        return weights

    def embedding(self, codes: FlatCodes) -> Floats:
        """The mean embedding [Q] of a clip [N * L], in units of the longest row."""
        mean: Floats = self.rows[codes].sum(axis=0) / (len(codes) // self.levels)
        return mean

    def table(self, query: NDArray[np.floating]) -> Floats:
        """The dot product of each flat code with the query [Q] at length one, [K]; zeros for a query without length.

        Raises:
            ValueError: another width than Q, or numbers that are not finite.
        """
        vector = np.asarray(query, np.float64)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            raise ValueError(f"a query is {self.dim} finite numbers")
        largest = np.abs(vector).max()
        if largest == 0:
            return np.zeros(self.size)
        vector = vector / largest
        vector = vector / np.sqrt(vector @ vector)
        return np.concatenate(
            [table @ vector[self._channels(level)] for level, table in enumerate(self._rows)]
        )

    @cached_property
    def squares(self) -> Floats:
        """Squared lengths of the rows, [K]."""
        squares: Floats = np.einsum("kq,kq->k", self.rows, self.rows)
        return squares

    @cached_property
    def products(self) -> Floats:
        """Dot products of rows, [K, K]; [0, 0] where levels do not share channels and all that count are zero."""
        return np.zeros((0, 0)) if self.depth == 1 else self.rows @ self.rows.T

    def _channels(self, level: int) -> slice:
        group = level // self.depth
        return slice(self._starts[group], self._starts[group + 1])
