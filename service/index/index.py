"""One index: a store that keeps, arrays that answer, and what binds the two."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from service.index import database, kernels
from service.index.code_index import CodeIndex
from service.index.errors import IndexExists, InvalidItem, ModelMismatch, StoreUnavailable
from service.index.filters.evaluation import Filters
from service.index.filters.expression import Filter
from service.index.items import Item, StoredItem, packed_latents
from service.index.retrieval import Answer, Query, Retrieval, Strategy
from service.index.rows import Rows
from service.index.space import CodeSpace
from service.index.store import ItemStore, Page
from service.index.writing import Writing, Written
from tessera.windows import MODALITIES, Modality

_log = logging.getLogger(__name__)

Status = Literal["created", "updated", "deleted", "not_found"]

COLUMN_BYTES = 256 * 2**20
"""What columns of filters may take in memory."""


class Outcome(NamedTuple):
    """What a write did to each item, in order, and the version of the index that has it."""

    version: int
    statuses: list[Status]


class Index:
    """An index that is open; all methods may be called from any thread."""

    def __init__(self, store: ItemStore, space: CodeSpace, pool: Executor | None = None) -> None:
        """Load the arrays. `pool` shares the work of large queries and of many.

        Raises:
            StoreCorrupt: an item is damaged.
        """
        self.store = store
        self.space = space
        self._codes = CodeIndex(space)
        self._codes.load(store.load(space), store.version)
        self._filters = Filters(store.metadata, COLUMN_BYTES)
        self._retrieval = Retrieval(store, space, self._filters, pool)
        self._writing = Lock()
        self._compaction: Thread | None = None
        self._closed = False

    @classmethod
    def create(
        cls, path: Path, name: str, revision: str, space: CodeSpace, pool: Executor | None = None
    ) -> Self:
        """A new, empty index of a model revision.

        Raises:
            IndexExists: there is one already.
            StoreFull, StoreUnavailable: it cannot be written.
        """
        facts: dict[str, str | int] = {"name": name, "model_revision": revision, "version": 0}
        try:
            with database.translated(name):
                database.create(path, facts)
        except FileExistsError:
            raise IndexExists(f"index '{name}' is there already") from None
        except OSError:
            raise StoreUnavailable(f"index '{name}': its folder cannot be written") from None
        return cls(ItemStore(path, name), space, pool)

    @classmethod
    def open(
        cls, path: Path, name: str, revision: str, space: CodeSpace, pool: Executor | None = None
    ) -> Self:
        """An index that is there.

        Raises:
            ModelMismatch: it belongs to another model revision.
            StoreCorrupt, StoreUnavailable: it cannot be served.
        """
        store = ItemStore(path, name)
        try:
            if store.facts.get("model_revision") != revision:
                raise ModelMismatch(f"index '{name}' belongs to another model revision")
            return cls(store, space, pool)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Wait for what is being written, and close. Nothing may be asked afterwards."""
        with self._writing:
            self._closed = True
            compaction = self._compaction
        if compaction is not None:
            compaction.join()
        self.store.close()

    @property
    def revision(self) -> str:
        """The model revision that it belongs to."""
        return str(self.store.facts["model_revision"])

    @property
    def version(self) -> int:
        """Counts writes."""
        return self._codes.snapshot.version

    def upsert(self, items: Sequence[Item], token: str | None = None) -> Outcome:
        """Keep `items`; when this returns they are on the disk and are found.

        The same `token` with the same items is answered as it was the first time.

        Raises:
            InvalidItem: two have one id, or one cannot be kept. None is kept then.
            KeyReused: the token came with another write.
            StoreFull, StoreUnavailable, StoreCorrupt: nothing was kept.
        """
        if len({item.id for item in items}) < len(items):
            raise InvalidItem("items: two have the same id")
        codes = [self._flat(item) for item in items]
        weights = self._weights(codes)
        return self._write(
            token,
            _digest(items) if token else b"",
            lambda writing: writing.upsert(items, weights.tolist()),
            lambda written: _rows(items, codes, weights, written.added),
            [item.id for item in items],
            ("created", "updated"),
        )

    def delete(self, ids: Sequence[str], token: str | None = None) -> Outcome:
        """Let items go.

        Raises:
            KeyReused, StoreFull, StoreUnavailable, StoreCorrupt: as `upsert`.
        """
        return self._write(
            token,
            _digest([], ids),
            lambda writing: writing.delete(ids),
            lambda _: None,
            [],
            ("not_found", "deleted"),
        )

    def get(self, id: str) -> StoredItem | None:
        """The item of this id."""
        return self.store.get(id)

    def page(self, after: str | None = None, limit: int = 100, modality: Modality | None = None) -> Page:
        """Items in the order of their ids."""
        return self.store.page(after, limit, modality)

    def stats(self) -> dict[str, Any]:
        """What there is, and what it takes."""
        snapshot = self._codes.snapshot
        counts = dict.fromkeys(MODALITIES, 0)
        for held in snapshot.held:
            for number, modality in enumerate(MODALITIES):
                mask = held.part.modality_mask(frozenset([number])) & held.alive
                counts[modality] += int(np.bitwise_count(mask).sum())
        return {
            "items": snapshot.count,
            "modalities": counts,
            "index_version": snapshot.version,
            "model_revision": self.revision,
            "kernels": "compiled" if kernels.COMPILED else "numpy",
            "distinct_codes": sum(len(held.part.weights) for held in snapshot.held),
            "array_bytes": snapshot.nbytes,
            "filter_bytes": self._filters.nbytes,
        }

    def retrieve(
        self,
        queries: Sequence[Query],
        top_k: int,
        strategy: Strategy = "pooled",
        *,
        modalities: Sequence[Modality] | None = None,
        filter: Filter | None = None,
    ) -> Answer:
        """The best `top_k` items for each query, all of one version of the index.

        Raises:
            ValueError: a query of another width, or no matches asked for.
        """
        return self._retrieval.answer(self._codes.snapshot, queries, top_k, strategy, modalities, filter)

    def _write(
        self,
        token: str | None,
        digest: bytes,
        keep: Callable[[Writing], Written],
        rows: Callable[[Written], Rows | None],
        ids: Sequence[str],
        statuses: tuple[Status, Status],
    ) -> Outcome:
        """One write: in the store, then in the arrays, which cannot fail any more."""
        with self._writing:
            if self._closed:
                raise StoreUnavailable(f"index '{self.store.name}' is closed")
            if token is not None and (before := self.store.answer_to(token, digest)) is not None:
                return Outcome(*orjson.loads(before))
            with self.store.writing(self._codes.oldest_version) as writing:
                written = keep(writing)
                outcome = Outcome(written.version, [statuses[not new] for new in written.created])
                if token is not None:
                    writing.remember(token, digest, orjson.dumps([*outcome]))
                removed = np.array(written.removed, np.int64)
                snapshot = self._codes.changed(written.version, rows(written), ids, removed)
            self._codes.publish(snapshot)
            self._compact_when_wanted()
        return outcome

    def _compact_when_wanted(self) -> None:
        if self._compaction is None and self._codes.wants_compaction:
            self._compaction = Thread(target=self._compact, name=f"compact {self.store.name}", daemon=True)
            self._compaction.start()

    def _compact(self) -> None:
        try:
            self._codes.compact(self.store.keys_by_id, self._writing)
        except Exception:
            # The arrays are as they were, only slower; the next write tries again.
            _log.exception("index '%s' could not be compacted", self.store.name)
        finally:
            self._compaction = None

    def _flat(self, item: Item) -> NDArray[np.uint16]:
        if item.latents is not None and np.shape(item.latents) != (self.space.dim,):
            raise InvalidItem(f"item '{item.id}': latents are {self.space.dim} numbers")
        try:
            return self.space.flat(item.codes.codes)
        except ValueError as error:
            raise InvalidItem(f"item '{item.id}': {error}") from None

    def _weights(self, codes: Sequence[NDArray[np.uint16]]) -> NDArray[np.float32]:
        widths = np.array([len(row) for row in codes])
        weights = np.zeros(len(codes), np.float32)
        for width in np.unique(widths):
            some = np.flatnonzero(widths == width)
            weights[some] = self.space.weights(np.stack([codes[number] for number in some.tolist()]))
        return weights


def _rows(
    items: Sequence[Item],
    codes: Sequence[NDArray[np.uint16]],
    weights: NDArray[np.float32],
    keys: Sequence[int],
) -> Rows | None:
    if not items:
        return None
    return Rows(
        np.array(keys, np.int64),
        np.zeros(len(items), np.uint32),
        np.array([MODALITIES.index(item.codes.modality) for item in items], np.uint8),
        weights,
        np.array([len(row) for row in codes], np.int64),
        np.concatenate(codes),
    )


def _digest(items: Sequence[Item], deleted: Sequence[str] = ()) -> bytes:
    """What tells one write from another."""
    digest = hashlib.sha256(orjson.dumps([[item.id for item in items], deleted]))
    for item in items:
        latents = b"" if item.latents is None else packed_latents(item.latents)
        for part in (item.codes.to_bytes(), item.metadata_json(), latents):
            digest.update(b"%d," % len(part))
            digest.update(part)
    return digest.digest()
