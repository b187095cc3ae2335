"""One write to a store, before it is committed."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from service.index.items import Item, checksum, packed_latents
from tessera.windows import MODALITIES

_TOKENS_KEPT = 24 * 3600.0
"""Seconds."""

_INSERT = (
    "INSERT INTO items (id, codes, metadata, latents, created, updated, born, modality, weight, checksum) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Written(NamedTuple):
    """What a write did so far: the version it makes, keys of rows that died and that were added, and which were new."""

    version: int
    removed: list[int]
    added: list[int]
    created: list[bool]


class Writing:
    """One write that is not committed yet."""

    def __init__(self, connection: sqlite3.Connection, version: int) -> None:
        self._connection = connection
        self.version = version
        self._now = time.time()

    def upsert(self, items: Sequence[Item], weights: Sequence[float]) -> Written:
        """Keep `items`, whose ids are all different, in the place of those that have their ids."""
        created, removed = self._died([item.id for item in items])
        added = []
        for item, weight in zip(items, weights, strict=True):
            codes, metadata = item.codes.to_bytes(), item.metadata_json()
            latents = None if item.latents is None else packed_latents(item.latents)
            modality = MODALITIES.index(item.codes.modality)
            numbers = (created.get(item.id, self._now), self._now, self.version, modality, weight)
            check = checksum(item.id, codes, metadata, latents, *numbers)
            row = self._connection.execute(_INSERT, (item.id, codes, metadata, latents, *numbers, check))
            added.append(row.lastrowid)
        return Written(
            self.version, removed, [key for key in added if key], [item.id not in created for item in items]
        )

    def delete(self, ids: Sequence[str]) -> Written:
        """Let items go; `created` says of each id whether there was none."""
        created, removed = self._died(ids)
        return Written(self.version, removed, [], [id not in created for id in ids])

    def remember(self, token: str, digest: bytes, answer: bytes) -> None:
        """Answer this idempotency key the same from now on, for a day."""
        self._connection.execute("DELETE FROM writes WHERE written < ?", (self._now - _TOKENS_KEPT,))
        kept = zlib.crc32(answer).to_bytes(4, "little") + answer
        self._connection.execute("INSERT INTO writes VALUES (?, ?, ?, ?)", (token, digest, kept, self._now))

    def _died(self, ids: Sequence[str]) -> tuple[dict[str, float], list[int]]:
        """When those that are there were created, and the keys of the rows that died."""
        created, removed = dict[str, float](), list[int]()
        for id in dict.fromkeys(ids):
            row = self._connection.execute(
                "UPDATE items SET died = ? WHERE id = ? AND died IS NULL RETURNING key, created",
                (self.version, id),
            ).fetchone()
            if row is not None:
                removed.append(row[0])
                created[id] = row[1]
        return created, removed
