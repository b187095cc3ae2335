"""The truth of one index, in SQLite: a write is acknowledged when it is on the disk.

A row is one state of an item and never changes but to die: an upsert lets the old row die and adds another. Dead rows
stay for as long as somebody reads a version in which they live, so a query finds all that it saw.
"""

from __future__ import annotations

import fcntl
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index import database
from service.index.errors import KeyReused, StoreUnavailable
from service.index.items import StoredItem
from service.index.loading import ITEM_COLUMNS, load, stored_item
from service.index.rows import Rows
from service.index.space import CodeSpace
from service.index.writing import Writing
from tessera.windows import MODALITIES, Modality

_CHUNK = 500
"""Values bound to one statement."""


class Page(NamedTuple):
    """Some items in the order of their ids; `cursor` is for those after them, None at the end."""

    items: list[StoredItem]
    cursor: str | None


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
        self._guard = Lock()
        self._closed = False
        with ExitStack() as opened:
            self._lock_file = opened.enter_context(_locked(path, name))
            with database.mistrusted(name):
                self._writer = opened.enter_context(closing(database.connect(path)))
                database.check(self._writer, name)
                self.facts = database.read_facts(self._writer, name)
                self._writer.execute("DELETE FROM items WHERE died IS NOT NULL")
            opened.pop_all()

    @property
    def version(self) -> int:
        """The version of the last acknowledged write."""
        return int(self.facts["version"])

    def close(self) -> None:
        """Close all connections; what was acknowledged is in the database file then."""
        with self._guard:
            self._closed = True
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
        kept = bytes(row[1])
        if zlib.crc32(kept[4:]).to_bytes(4, "little") != kept[:4]:
            raise database.damaged(self.name)
        if row[0] != digest:
            raise KeyReused("this idempotency key came with another write before")
        return kept[4:]

    def get(self, id: str) -> StoredItem | None:
        """The item of this id."""
        rows = self._rows(f"SELECT {ITEM_COLUMNS} FROM items WHERE id = ? AND died IS NULL", (id,))
        return self._items(rows)[0] if rows else None

    def items(self, keys: Sequence[int]) -> dict[int, StoredItem]:
        """The states of items that have these keys."""
        return {item.key: item for item in self._items(self._of_keys(ITEM_COLUMNS, keys))}

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
            f"SELECT {ITEM_COLUMNS} FROM items WHERE died IS NULL AND id > ? AND (? IS NULL OR modality = ?) "
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
        with self._reading() as reader:
            return load(reader, self.name, space)

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
            return [stored_item(row, self.name) for row in rows]

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
                    if self._closed:
                        reader.close()
                    else:
                        self._readers.append(reader)


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
