"""SQLite as we use it: connections, the schema of an index, and its errors in our own words."""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import orjson

from service.index.errors import StoreCorrupt, StoreFull, StoreUnavailable

FORMAT = 1

SCHEMA = """
CREATE TABLE facts (document BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE items (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    modality INTEGER NOT NULL,
    weight REAL NOT NULL,
    codes BLOB NOT NULL,
    metadata BLOB NOT NULL,
    latents BLOB,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    born INTEGER NOT NULL,
    died INTEGER,
    checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX live ON items (id) WHERE died IS NULL;
CREATE INDEX dead ON items (died) WHERE died IS NOT NULL;
CREATE TABLE writes (token TEXT PRIMARY KEY, digest BLOB NOT NULL, answer BLOB NOT NULL, written REAL NOT NULL)
    WITHOUT ROWID;
CREATE INDEX written ON writes (written);
"""

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NONSENSE = (UnicodeError, TypeError, ValueError, LookupError, OverflowError, struct.error)
"""What values that nobody wrote lead to."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raise the errors of SQLite as ours, about the index `name`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code in _FULL or code & 0xFF == sqlite3.SQLITE_FULL:
            raise StoreFull(f"index '{name}': the disk has no room; nothing was written") from error
        if code & 0xFF in _CORRUPT:
            raise damaged(name) from error
        raise StoreUnavailable(f"index '{name}': its database cannot be used now") from error


@contextmanager
def mistrusted(name: str) -> Iterator[None]:
    """As `translated`, where nothing that is read has been checked yet."""
    try:
        with translated(name):
            yield
    except _NONSENSE as error:
        raise damaged(name) from error


def damaged(name: str) -> StoreCorrupt:
    """What is said of a database that must not be served."""
    return StoreCorrupt(f"index '{name}': its database is damaged")


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection any one thread at a time may use; writers fsync at each commit, which is what durability costs.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: Path, facts: Mapping[str, str | int]) -> None:
    """A new database, whole or not at all, at `path`, where nothing is yet.

    Raises:
        sqlite3.Error, OSError: it cannot be written.
    """
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN;{SCHEMA}")
        connection.execute("INSERT INTO facts VALUES (x'', 0)")
        write_facts(connection, {"format": FORMAT, **facts})
        connection.execute("COMMIT")
    try:
        os.link(unfinished, path)
    finally:
        unfinished.unlink()
    sync_folder(path.parent)


def read_facts(connection: sqlite3.Connection, name: str) -> dict[str, str | int]:
    """What an index says of itself.

    Raises:
        StoreCorrupt: it is not what was written.
        StoreUnavailable: another version of Tessera wrote it.
    """
    rows = connection.execute("SELECT document, checksum FROM facts").fetchall()
    if len(rows) != 1 or zlib.crc32(rows[0][0]) != rows[0][1]:
        raise damaged(name)
    facts: dict[str, str | int] = orjson.loads(rows[0][0])
    if facts["format"] != FORMAT:
        raise StoreUnavailable(f"index '{name}': its database is of another version of Tessera")
    return facts


def write_facts(connection: sqlite3.Connection, facts: Mapping[str, str | int]) -> None:
    """Put them in the place of those that are there."""
    document = orjson.dumps(facts)
    connection.execute("UPDATE facts SET document = ?, checksum = ?", (document, zlib.crc32(document)))


def check(connection: sqlite3.Connection, name: str) -> None:
    """Raise StoreCorrupt unless the pages of the database are whole."""
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise damaged(name)


def sync_folder(folder: Path) -> None:
    """Have the names of files in `folder` on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
