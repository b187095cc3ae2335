"""Rows of a store on their way out: each is checked against its checksum, for an answer or for the arrays."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.index import database
from service.index.items import StoredItem, checksum
from service.index.rows import Rows, joined, spread
from service.index.space import CodeSpace
from tessera.codes import Codes

ITEM_COLUMNS = "key, id, codes, metadata, created, updated, born, modality, weight, latents, checksum"
"""What `stored_item` reads."""

_HEADER_NUMBERS = 18
"""What `Codes.to_bytes` writes before the codes, in numbers of two bytes."""

_LOADED = 50_000
"""Rows read at a time."""

_NO_ROWS = Rows(*(np.zeros(0, kind) for kind in ("i8", "u4", "u1", "f4", "i8", "u2")))


def stored_item(row: tuple[Any, ...], name: str) -> StoredItem:
    """The item of a row of the index `name`.

    Raises:
        StoreCorrupt: it is not what was written.
    """
    _require_whole(row, name)
    return StoredItem(
        key=row[0],
        id=row[1],
        codes=Codes.from_bytes(row[2]),
        metadata=orjson.loads(row[3]),
        created=row[4],
        updated=row[5],
        version=row[6],
    )


def load(reader: sqlite3.Connection, name: str, space: CodeSpace) -> Rows:
    """All items that live; ranks are those of their ids.

    Raises:
        StoreCorrupt: one is not what was written, or not of this codebook.
    """
    parts, names = [_NO_ROWS], [np.zeros(0, np.int64)]
    cursor = reader.execute(f"SELECT {ITEM_COLUMNS} FROM items NOT INDEXED WHERE died IS NULL ORDER BY key")
    while some := cursor.fetchmany(_LOADED):
        parts.append(_part(some, name, space))
        names.append(_checksums(row[1] for row in some))
    rows = joined(parts)
    keys, listed = _listed(reader)
    order = np.argsort(keys, kind="stable")
    if not (np.array_equal(keys[order], rows.keys) and np.array_equal(listed[order], np.concatenate(names))):
        raise database.damaged(name)
    return rows._replace(ranks=order.astype(np.uint32))


def _listed(reader: sqlite3.Connection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys, and checksums of ids, in the order of ids: as the index of ids has them, which no row's checksum covers."""
    cursor = reader.execute("SELECT key, id FROM items INDEXED BY live WHERE died IS NULL ORDER BY id")
    keys, names = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while some := cursor.fetchmany(_LOADED):
        keys.append(np.array([key for key, _ in some], np.int64))
        names.append(_checksums(id for _, id in some))
    return np.concatenate(keys), np.concatenate(names)


def _part(rows: Sequence[tuple[Any, ...]], name: str, space: CodeSpace) -> Rows:
    for row in rows:
        _require_whole(row, name)
    widths, codes = _flat([row[2] for row in rows], name, space)
    keys = np.array([row[0] for row in rows], np.int64)
    modalities = np.array([row[7] for row in rows], np.uint8)
    weights = np.array([row[8] for row in rows], np.float32)
    return Rows(keys, np.zeros(len(keys), np.uint32), modalities, weights, widths, codes)


def _flat(
    blobs: Sequence[bytes], name: str, space: CodeSpace
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Widths and flat codes of records as `Codes.to_bytes` writes them, all at once."""
    numbers = np.frombuffer(b"".join(blobs), "<u2")
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs)) // 2
    starts = np.cumsum(sizes) - sizes
    levels = numbers[starts + 2] >> 8
    segments = numbers[starts + 4].astype(np.int64) + (numbers[starts + 5].astype(np.int64) << 16)
    widths = segments * space.levels
    if (levels != space.levels).any() or (sizes < _HEADER_NUMBERS + widths).any():
        raise database.damaged(name)
    codes = numbers[spread(starts + _HEADER_NUMBERS, widths)].reshape(-1, space.levels)
    if (codes >= np.array(space.sizes)).any():
        raise database.damaged(name)
    return widths, (codes + space.offsets).astype(np.uint16).ravel()


def _require_whole(row: tuple[Any, ...], name: str) -> None:
    _, id, codes, metadata, created, updated, born, modality, weight, latents, expected = row
    if checksum(id, codes, metadata, latents, created, updated, born, modality, weight) != expected:
        raise database.damaged(name)


def _checksums(ids: Iterable[str]) -> NDArray[np.int64]:
    return np.array([zlib.crc32(id.encode()) for id in ids], np.int64)
