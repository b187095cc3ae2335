"""The truth of one index, in SQLite: a write is acknowledged when it is on the disk.

A row is one state of an item and never changes but to die: an upsert lets the old row die and adds another. Dead rows
stay for as long as somebody reads a version in which they live, so a query finds all that it saw.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from service.index import database
from service.index.errors import KeyReused, StoreCorrupt, StoreUnavailable
from service.index.items import Item, StoredItem, checksum, packed_latents
from service.index.part import Rows, joined
from service.index.space import CodeSpace
from tessera.codes import Codes
from tessera.windows import MODALITIES, Modality

_HEADER_NUMBERS = 18
"""What `Codes.to_bytes` writes before the codes, in numbers of two bytes."""

_TOKENS_KEPT = 24 * 3600.0
_CHUNK = 500
"""Values bound to one statement."""

_LOADED = 50_000
"""Rows read at a time."""

_NO_ROWS = Rows(*(np.zeros(0, kind) for kind in ("i8", "u4", "u1", "f4", "i8", "u2")))

_COLUMNS = "key, id, codes, metadata, created, updated, born, modality, weight, latents, checksum"

_INSERT = (
    "INSERT INTO items (id, codes, metadata, latents, created, updated, born, modality, weight, checksum) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Page(NamedTuple):
    """Some items in the order of their ids; `cursor` is for those after them, None at the end."""

    items: list[StoredItem]
    cursor: str | None


class Written(NamedTuple):
    """What a write did so far: the version it makes, keys of rows that died and that were added, and which were new."""

    version: int
    removed: list[int]
    added: list[int]
    created: list[bool]


class ItemStore:
    """One database. Readers are many; writes come one at a time, within `writing`."""

    def __init__(self, path: Path, name: str) -> None:
        """Open and check.

        Raises:
            StoreCorrupt: it is damaged.
            StoreUnavailable: it cannot be opened, or another process has it.
        """
        self.name = name
        self._path = path
        self._readers: list[sqlite3.Connection] = []
        self._lock_file = _locked(path, name)
        try:
            with database.mistrusted(name):
                self._writer = database.connect(path)
                database.check(self._writer, name)
                self.facts = database.read_facts(self._writer, name)
                self._writer.execute("DELETE FROM items WHERE died IS NOT NULL")
        except BaseException:
            self._lock_file.close()
            raise
        self._guard = Lock()

    @property
    def version(self) -> int:
        """The version of the last acknowledged write."""
        return int(self.facts["version"])

    def close(self) -> None:
        """Close all connections; what was acknowledged is in the database file then."""
        for connection in (*self._readers, self._writer):
            connection.close()
        self._lock_file.close()

    @contextmanager
    def writing(self, oldest_read: int) -> Iterator[Writing]:
        """A write: committed at the end of the block, not there at all after an exception.

        `oldest_read` is the oldest version that somebody still reads.

        Raises:
            StoreFull: no room; nothing was kept.
            StoreUnavailable, StoreCorrupt: the database cannot be written.
        """
        with database.translated(self.name):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                writing = Writing(self._writer, self.version + 1)
                self._writer.execute("DELETE FROM items WHERE died <= ?", (oldest_read,))
                yield writing
                facts = {**self.facts, "version": writing.version}
                database.write_facts(self._writer, facts)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        self.facts = facts

    def answer_to(self, token: str, digest: bytes) -> bytes | None:
        """What the write of this idempotency key was answered; None if there was none within a day.

        Raises:
            KeyReused: it was another write.
        """
        with self._reading() as reader:
            row = reader.execute("SELECT digest, answer FROM writes WHERE token = ?", (token,)).fetchone()
        if row is None:
            return None
        if row[0] != digest:
            raise KeyReused("this idempotency key came with another write before")
        return bytes(row[1])

    def get(self, id: str) -> StoredItem | None:
        """The item of this id."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM items WHERE id = ? AND died IS NULL", (id,))
        return self._items(rows)[0] if rows else None

    def items(self, keys: Sequence[int]) -> dict[int, StoredItem]:
        """The states of items that have these keys."""
        return {item.key: item for item in self._items(self._of_keys(_COLUMNS, keys))}

    def names(self, keys: Sequence[int]) -> Mapping[int, str]:
        """The ids of the items that have these keys."""
        return dict(self._of_keys("key, id", keys))

    def latents(self, keys: Sequence[int]) -> dict[int, bytes]:
        """Packed latents of the items that have some."""
        return {key: data for key, data in self._of_keys("key, latents", keys) if data is not None}

    def metadata(self, after: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Keys in (after, last], ascending, and the metadata of what has them, as JSON."""
        with self._reading() as reader:
            yield from reader.execute(
                "SELECT key, metadata FROM items WHERE key > ? AND key <= ? ORDER BY key", (after, last)
            )

    def page(self, after: str | None, limit: int, modality: Modality | None = None) -> Page:
        """Up to `limit` items whose ids come after `after`, in the order of ids."""
        kind = None if modality is None else MODALITIES.index(modality)
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM items WHERE died IS NULL AND id > ? AND (? IS NULL OR modality = ?) "
            "ORDER BY id LIMIT ?",
            (after or "", kind, kind, limit + 1),
        )
        items = self._items(rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def keys_by_id(self) -> NDArray[np.int64]:
        """The keys of all live items in the order of their ids."""
        with self._reading() as reader:
            rows = reader.execute("SELECT key FROM items WHERE died IS NULL ORDER BY id")
            return np.fromiter((key for (key,) in rows), np.int64)

    def load(self, space: CodeSpace) -> Rows:
        """All items, checked one by one, for the arrays.

        Raises:
            StoreCorrupt: one is damaged, or not of this codebook.
        """
        names = [np.zeros(0, np.int64)]
        with self._reading() as reader:
            cursor = reader.execute(
                f"SELECT {_COLUMNS} FROM items NOT INDEXED WHERE died IS NULL ORDER BY key"
            )
            parts = [_NO_ROWS]
            while some := cursor.fetchmany(_LOADED):
                parts.append(self._part(some, space))
                names.append(_checksums(row[1] for row in some))
            rows = joined(parts)
            keys, listed = self._listed(reader)
            order = np.argsort(keys, kind="stable")
            if not (
                np.array_equal(keys[order], rows.keys)
                and np.array_equal(listed[order], np.concatenate(names))
            ):
                raise database.damaged(self.name)
            rows.ranks[np.searchsorted(rows.keys, keys)] = np.arange(len(keys))
            return rows

    def _listed(self, reader: sqlite3.Connection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys, and checksums of ids, as the index of ids has them, which no checksum of an item covers."""
        cursor = reader.execute("SELECT key, id FROM items INDEXED BY live WHERE died IS NULL ORDER BY id")
        keys, names = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        while some := cursor.fetchmany(_LOADED):
            keys.append(np.array([key for key, _ in some], np.int64))
            names.append(_checksums(id for _, id in some))
        return np.concatenate(keys), np.concatenate(names)

    def _part(self, rows: Sequence[tuple[Any, ...]], space: CodeSpace) -> Rows:
        for row in rows:
            self._require_whole(row)
        widths, codes = self._flat([row[2] for row in rows], space)
        keys = np.array([row[0] for row in rows], np.int64)
        modalities = np.array([row[7] for row in rows], np.uint8)
        weights = np.array([row[8] for row in rows], np.float32)
        return Rows(keys, np.zeros(len(keys), np.uint32), modalities, weights, widths, codes)

    def _flat(self, blobs: list[bytes], space: CodeSpace) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Widths and flat codes of records as `Codes.to_bytes` writes them, all at once."""
        numbers = np.frombuffer(b"".join(blobs), "<u2")
        sizes = np.fromiter(map(len, blobs), np.int64, len(blobs)) // 2
        starts = np.cumsum(sizes) - sizes
        levels = numbers[starts + 2] >> 8
        segments = numbers[starts + 4].astype(np.int64) + (numbers[starts + 5].astype(np.int64) << 16)
        widths = segments * space.levels
        if (levels != space.levels).any() or (sizes < _HEADER_NUMBERS + widths).any():
            raise StoreCorrupt(f"index '{self.name}': items of another codebook")
        ends = np.cumsum(widths)
        places = np.arange(int(widths.sum())) + np.repeat(starts + _HEADER_NUMBERS - (ends - widths), widths)
        codes = numbers[places].reshape(-1, space.levels)
        if (codes >= np.array(space.sizes)).any():
            raise StoreCorrupt(f"index '{self.name}': items of another codebook")
        return widths, (codes + space.offsets).astype(np.uint16).ravel()

    def _rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._reading() as reader:
            return reader.execute(statement, values).fetchall()

    def _of_keys(self, columns: str, keys: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(keys), _CHUNK):
            some = keys[first : first + _CHUNK]
            marks = ",".join("?" * len(some))
            yield from self._rows(f"SELECT {columns} FROM items WHERE key IN ({marks})", some)

    def _items(self, rows: Iterable[tuple[Any, ...]]) -> list[StoredItem]:
        with database.mistrusted(self.name):
            return [self._item(row) for row in rows]

    def _item(self, row: tuple[Any, ...]) -> StoredItem:
        self._require_whole(row)
        return StoredItem(
            key=row[0],
            id=row[1],
            codes=Codes.from_bytes(row[2]),
            metadata=orjson.loads(row[3]),
            created=row[4],
            updated=row[5],
            version=row[6],
        )

    def _require_whole(self, row: tuple[Any, ...]) -> None:
        _, id, codes, metadata, created, updated, born, modality, weight, latents, expected = row
        if checksum(id, codes, metadata, latents, created, updated, born, modality, weight) != expected:
            raise database.damaged(self.name)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with database.mistrusted(self.name):
            with self._guard:
                reader = self._readers.pop() if self._readers else None
            if reader is None:
                reader = database.connect(self._path, read_only=True)
            try:
                yield reader
            finally:
                with self._guard:
                    self._readers.append(reader)


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
        self._connection.execute("INSERT INTO writes VALUES (?, ?, ?, ?)", (token, digest, answer, self._now))

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


def _checksums(ids: Iterable[str]) -> NDArray[np.int64]:
    return np.array([zlib.crc32(id.encode()) for id in ids], np.int64)


def _locked(path: Path, name: str) -> IO[bytes]:
    try:
        handle = path.with_suffix(".lock").open("ab")
    except OSError:
        raise StoreUnavailable(f"index '{name}': its folder cannot be written") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise StoreUnavailable(f"index '{name}': another process has it open") from None
    return handle
