"""How queries are answered: what is looked for, by which strategy, in which version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index.filters.evaluation import Filters
from service.index.filters.expression import Filter
from service.index.items import StoredItem, unpacked_latents
from service.index.query import PooledQuery, SegmentQuery
from service.index.snapshot import Match, Snapshot
from service.index.space import CodeSpace
from service.index.store import ItemStore
from tessera.windows import MODALITIES, Modality

Strategy = Literal["pooled", "segments", "latents"]
_Search = Callable[[Sequence[PooledQuery | SegmentQuery], int], list[list[Match]]]

RERANKED = 100
"""Items that `latents` puts in order anew."""


_SHARE = 16
"""Queries of one thread."""


class Query(NamedTuple):
    """What is looked for. `vector` [Q]: a pooled embedding; `latents` [Q]: the same of continuous vectors.

    `span`: segments of a stretch, for `segments`.
    """

    vector: NDArray[np.floating]
    latents: NDArray[np.floating] | None = None
    span: int = 3


class Answer(NamedTuple):
    """Matches of each query, all in one version of the index, and the items that were found, by key."""

    version: int
    matches: list[list[Match]]
    items: dict[int, StoredItem]


class Retrieval:
    """Answers queries from a version of the arrays and the store that it came from."""

    def __init__(self, store: ItemStore, space: CodeSpace, filters: Filters, pool: Executor | None) -> None:
        self._store = store
        self._space = space
        self._filters = filters
        self._pool = pool

    def answer(
        self,
        snapshot: Snapshot,
        queries: Sequence[Query],
        top_k: int,
        strategy: Strategy,
        modalities: Sequence[Modality] | None,
        filter: Filter | None,
    ) -> Answer:
        """The best `top_k` items of `snapshot` for each query.

        Raises:
            ValueError: a query of another width, or no matches asked for.
        """
        if top_k < 1:
            raise ValueError("top_k is at least one")
        search = self._search(snapshot, modalities, filter)
        if strategy == "segments":
            found = search([SegmentQuery.of(self._space, q.vector, q.span) for q in queries], top_k)
        else:
            wanted = top_k if strategy == "pooled" else max(top_k, RERANKED)
            found = search([PooledQuery.of(self._space, query.vector) for query in queries], wanted)
        if strategy == "latents":
            found = [self._reranked(q, matches)[:top_k] for q, matches in zip(queries, found, strict=True)]
        keys = {match.key for matches in found for match in matches}
        return Answer(snapshot.version, found, self._store.items(list(keys)))

    def _search(
        self, snapshot: Snapshot, modalities: Sequence[Modality] | None, filter: Filter | None
    ) -> _Search:
        options: dict[str, Any] = {}
        if modalities is not None:
            options["modalities"] = frozenset(MODALITIES.index(modality) for modality in modalities)
        if filter is not None:
            options["mask_of"] = self._filters.over(snapshot, filter)

        names = self._store.names

        def search(queries: Sequence[PooledQuery | SegmentQuery], count: int) -> list[list[Match]]:
            if len(queries) == 1:
                return [snapshot.search(queries[0], count, names, pool=self._pool, **options)]
            if self._pool is None:
                return snapshot.search_many(queries, count, names, **options)
            shares = [queries[first : first + _SHARE] for first in range(0, len(queries), _SHARE)]
            found = self._pool.map(lambda share: snapshot.search_many(share, count, names, **options), shares)
            return [matches for share in found for matches in share]

        return search

    def _reranked(self, query: Query, matches: list[Match]) -> list[Match]:
        """By the cosine of continuous vectors; an item without has the embedding of its codes in their place."""
        vector = np.asarray(query.vector if query.latents is None else query.latents, np.float64)
        if vector.shape != (self._space.dim,) or not np.isfinite(vector).all():
            raise ValueError(f"latents are {self._space.dim} finite numbers")
        keys = [match.key for match in matches]
        kept = {key: unpacked_latents(data) for key, data in self._store.latents(keys).items()}
        for key, item in self._store.items([key for key in keys if key not in kept]).items():
            kept[key] = self._space.embedding(self._space.flat(item.codes.codes))
        names = self._store.names(keys)
        scored = [match._replace(score=_cosine(vector, kept[match.key])) for match in matches]
        return sorted(scored, key=lambda match: (-match.score, names[match.key]))


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.float32(one @ other / lengths)) if lengths > 0 else 0.0
