"""What was acknowledged is there after kill -9; what is damaged is refused; a full disk keeps nothing by halves."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.index.catalogue import Catalogue
from service.index.errors import StoreCorrupt, StoreFull, StoreUnavailable
from service.index.index import Index
from service.index.items import Item
from service.index.retrieval import Query
from tests.service.index.mortal_writer import REVISION, batch, space

KILLS = int(os.environ.get("TESSERA_TEST_KILLS", "4"))
"""A thousand in the long version: docs/retrieval.md."""


def _expected(version: int) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for number in range(version):
        kept, gone = batch(number)
        items.update({item.id: item for item in kept})
        for id in gone:
            items.pop(id, None)
    return items


def _everything(index: Index) -> dict[str, tuple[list[list[int]], dict[str, object]]]:
    found, cursor = {}, None
    while True:
        page = index.page(cursor, limit=100)
        found.update({item.id: (item.codes.codes.tolist(), item.metadata) for item in page.items})
        cursor = page.cursor
        if cursor is None:
            return found


def _require(index: Index, version: int) -> None:
    """The index is what the first `version` writes made, on the disk and in the arrays."""
    expected = _expected(version)
    assert _everything(index) == {
        id: (item.codes.codes.tolist(), item.metadata) for id, item in expected.items()
    }
    answer = index.retrieve([Query(np.ones(8))], max(1, len(expected)))
    assert sorted(answer.items[match.key].id for match in answer.matches[0]) == sorted(expected)


def test_an_acknowledged_index_write_survives_a_crash(tmp_path: Path) -> None:
    chance = random.Random(0)
    acknowledged = 0
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.service.index.mortal_writer", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.3))
            writer.kill()
            acknowledged = int([first, *writer.stdout.read().splitlines()][-1])
        catalogue = Catalogue(tmp_path, {REVISION: space()})
        index = catalogue.get("mortal", REVISION)
        # The last write may have been on the disk and not yet acknowledged.
        assert acknowledged <= index.version <= acknowledged + 1
        _require(index, index.version)
        catalogue.close()
    assert acknowledged > KILLS


def test_two_processes_cannot_have_one_index(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.service.index.mortal_writer", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreUnavailable, match="another process has it open"):
            Catalogue(tmp_path, {REVISION: space()}).get("mortal", REVISION)
        writer.kill()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of 30 writes that was closed."""
    folder = tmp_path_factory.mktemp("written")
    catalogue = Catalogue(folder, {REVISION: space()})
    index = catalogue.create("mortal", REVISION)
    for number in range(30):
        kept, gone = batch(number)
        if kept:
            index.upsert(kept, token=f"write {number}")
        else:
            index.delete(gone)
    catalogue.close()
    return folder


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_index_is_refused(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are wrong: it is refused, or they meant nothing and all is as it was."""
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "mortal.sqlite"
    shutil.copy(written / "mortal.sqlite", path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 20]))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.sampled_from([1, 1, 400]))] = data.draw(
            st.binary(min_size=1, max_size=1)
        )
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content), len(content) // 2]))])
    catalogue = Catalogue(folder, {REVISION: space()})
    try:
        index = catalogue.get("mortal", REVISION)
    except (StoreCorrupt, StoreUnavailable):
        pass
    else:
        _require(index, 30)
    finally:
        catalogue.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"not a database" * 1000, b"SQLite format 3\0"):
        (tmp_path / "mortal.sqlite").write_bytes(content)
        with pytest.raises((StoreCorrupt, StoreUnavailable), match="index 'mortal'"):
            Catalogue(tmp_path, {REVISION: space()}).get("mortal", REVISION)


def test_a_value_that_changed_is_found_when_it_is_read(written: Path, tmp_path: Path) -> None:
    shutil.copy(written / "mortal.sqlite", tmp_path)
    catalogue = Catalogue(tmp_path, {REVISION: space()})
    index = catalogue.get("mortal", REVISION)
    with sqlite3.connect(tmp_path / "mortal.sqlite") as other:
        other.execute("UPDATE items SET metadata = '{}'")
    other.close()
    with pytest.raises(StoreCorrupt, match="damaged"):
        index.page()
    catalogue.close()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process may grow beyond 256 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_nothing_by_halves(tmp_path: Path, small_disk: None) -> None:
    catalogue = Catalogue(tmp_path, {REVISION: space()})
    index = catalogue.create("mortal", REVISION)
    full = 0
    while full < 3:
        kept, gone = batch(index.version)
        before = index.version
        try:
            index.upsert(kept) if kept else index.delete(gone)
        except StoreFull:
            assert index.version == before
            full += 1
    assert index.version > 2
    _require(index, index.version)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while index.version % 5 != 4:
        index.upsert(batch(index.version)[0])
    _require(index, index.version)
    version = index.version
    catalogue.close()
    catalogue = Catalogue(tmp_path, {REVISION: space()})
    index = catalogue.get("mortal", REVISION)
    assert index.version == version
    _require(index, version)
    catalogue.close()
