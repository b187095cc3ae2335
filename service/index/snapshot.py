"""One version of an index in memory: parts that never change, and which of their rows are alive. Queries read one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.index import bitmaps
from service.index.bitmaps import Bitmap
from service.index.kernels import best_rows, best_rows_of_many
from service.index.part import Part
from service.index.plain import likenesses, stretches
from service.index.query import PooledQuery, SegmentQuery

Names = Callable[[Sequence[int]], Mapping[int, str]]
"""The external ids of some keys; asked for where items of different parts have equal scores."""

MaskOf = Callable[[Part], Bitmap | None]
"""The rows of a part that a filter allows; None where it allows all."""


class Match(NamedTuple):
    """An item that was found; `first` and `stop` are the segments of its best stretch, where one was looked for."""

    key: int
    score: float
    first: int | None = None
    stop: int | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """A part as one version sees it. `ids` are those of its rows, while it is small."""

    part: Part
    alive: Bitmap
    count: int
    ids: tuple[str, ...] | None = None

    def without(self, keys: np.ndarray) -> Held:
        """The same, items of `keys` no longer alive."""
        rows = self.part.rows_of(keys)
        if not len(rows):
            return self
        alive = bitmaps.without(self.alive, rows)
        return Held(self.part, alive, bitmaps.count(alive), self.ids)


_Candidate: TypeAlias = tuple[float, int, int, int]
"""Minus the score, the number of the part, the place among the best of the part, the row."""


def _mask(held: Held, modalities: frozenset[int] | None, mask_of: MaskOf) -> Bitmap:
    mask = held.alive
    if modalities is not None:
        mask = mask & held.part.modality_mask(modalities)
    allowed = mask_of(held.part)
    return mask if allowed is None else mask & allowed


def _candidates(number: int, best: tuple[NDArray[np.float32], NDArray[np.int64]]) -> list[_Candidate]:
    pairs = zip(*(array.tolist() for array in best), strict=True)
    return [(-score, number, place, row) for place, (score, row) in enumerate(pairs)]


def _everything(_: Part) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One version of an index."""

    version: int
    held: tuple[Held, ...] = ()

    @property
    def count(self) -> int:
        """Items."""
        return sum(held.count for held in self.held)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(held.part.nbytes + held.alive.nbytes for held in self.held)

    def search(
        self,
        query: PooledQuery | SegmentQuery,
        count: int,
        names: Names,
        *,
        modalities: frozenset[int] | None = None,
        mask_of: MaskOf = _everything,
        pool: Executor | None = None,
    ) -> list[Match]:
        """The best `count` items, best first, equal ones in the order of their ids; `pool` shares the work."""
        found = []
        for number, held in enumerate(self.held):
            mask = _mask(held, modalities, mask_of)
            found += _candidates(number, best_rows(held.part, query, mask, count, pool))
        return self._matches(query, found, count, names)

    def search_many(
        self,
        queries: Sequence[PooledQuery | SegmentQuery],
        count: int,
        names: Names,
        *,
        modalities: frozenset[int] | None = None,
        mask_of: MaskOf = _everything,
    ) -> list[list[Match]]:
        """The same for each query."""
        found: list[list[_Candidate]] = [[] for _ in queries]
        for number, held in enumerate(self.held):
            mask = _mask(held, modalities, mask_of)
            for own, best in zip(found, best_rows_of_many(held.part, queries, mask, count), strict=True):
                own += _candidates(number, best)
        return [self._matches(q, own, count, names) for q, own in zip(queries, found, strict=True)]

    def _matches(
        self, query: PooledQuery | SegmentQuery, found: list[_Candidate], count: int, names: Names
    ) -> list[Match]:
        best = self._ordered(found, count, names)
        if isinstance(query, SegmentQuery):
            return [self._stretch(query, score, number, row) for score, number, row in best]
        return [Match(int(self.held[number].part.keys[row]), score) for score, number, row in best]

    def _ordered(self, found: list[_Candidate], count: int, names: Names) -> list[tuple[float, int, int]]:
        """Each part's list is in order; only where scores of two parts meet are ids looked up."""
        found.sort()
        parts: dict[float, set[int]] = {}
        for score, number, _, _ in found:
            parts.setdefault(score, set()).add(number)
        contested = {score for score, numbers in parts.items() if len(numbers) > 1}
        if contested:
            keys = {
                (number, row): int(self.held[number].part.keys[row])
                for score, number, _, row in found
                if score in contested
            }
            ids = names(list(keys.values()))
            found.sort(key=lambda f: (f[0], ids[keys[f[1], f[3]]] if f[0] in contested else "", f[1], f[2]))
        return [(-score, number, row) for score, number, _, row in found[:count]]

    def _stretch(self, query: SegmentQuery, score: float, number: int, row: int) -> Match:
        part = self.held[number].part
        codes = part.codes_of(part.entry_of(row)).reshape(1, -1, query.space.levels)
        totals, taken = stretches(likenesses(query.space, query, codes), query.span)
        first = int(totals[0].argmax())
        return Match(int(part.keys[row]), score, first, first + taken)
