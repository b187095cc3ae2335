"""An index as a whole: what is written is found, kept, listed, counted and let go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import orjson
import pytest

from service.index import code_index, kernels
from service.index.catalogue import Catalogue
from service.index.errors import (
    IndexExists,
    IndexUnknown,
    InvalidItem,
    KeyReused,
    ModelMismatch,
)
from service.index.filters.expression import parse
from service.index.index import Index
from service.index.items import LARGEST_METADATA, LONGEST_ID, Item, packed_latents, unpacked_latents
from service.index.retrieval import Answer, Query
from tests.service.index.worlds import CodeWorld, codes, item

WORLD = CodeWorld((np.random.default_rng(0).normal(size=(20, 8)),), 1)
REVISION = "sha256:one"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with ThreadPoolExecutor(2) as pool:
        made = Catalogue(tmp_path / "indexes", {REVISION: WORLD.space}, pool)
        yield made
        made.close()


@pytest.fixture
def index(catalogue: Catalogue) -> Index:
    return catalogue.create("default", REVISION)


def _clip(*codes: int) -> np.ndarray:
    return np.array(codes)[:, None]


def _ids(answer: Answer) -> list[list[str]]:
    return [[answer.items[match.key].id for match in matches] for matches in answer.matches]


def _query(code: int) -> Query:
    return Query(WORLD.tables[0][code])


def test_what_is_written_is_found(index: Index) -> None:
    outcome = index.upsert([item("a", _clip(1, 1)), item("b", _clip(2), 1), item("c", _clip(1, 2), 2)])
    assert outcome == (1, ["created", "created", "created"])
    answer = index.retrieve([_query(1), _query(2)], 2)
    assert answer.version == 1
    assert _ids(answer) == [["a", "c"], ["b", "c"]]
    assert answer.matches[0][0].score == pytest.approx(1.0, abs=1e-6)
    assert index.upsert([item("a", _clip(2)), item("d", _clip(3))]).statuses == ["updated", "created"]
    assert _ids(index.retrieve([_query(2)], 2)) == [["a", "b"]]
    assert index.delete(["b", "nobody"]) == (3, ["deleted", "not_found"])
    assert _ids(index.retrieve([_query(2)], 9)) == [["a", "c", "d"]]


def test_modalities_and_filters_narrow(index: Index) -> None:
    index.upsert([item(f"{n}", _clip(n % 5), n % 3, year=2000 + n) for n in range(30)])
    answer = index.retrieve(
        [_query(0)], 30, modalities=["video", "text"], filter=parse({"year": {"$lt": 2010}})
    )
    assert sorted(_ids(answer)[0], key=int) == ["1", "2", "4", "5", "7", "8"]
    assert _ids(index.retrieve([_query(0)], 2, filter=parse({"modality": "audio"}))) == [["0", "15"]]
    assert _ids(index.retrieve([_query(0)], 3, modalities=[])) == [[]]


def test_segments_say_where(index: Index) -> None:
    index.upsert([item("long", _clip(0, 1, 2, 2, 2, 3)), item("short", _clip(2, 2))])
    answer = index.retrieve([Query(WORLD.tables[0][2], span=3)], 2, "segments")
    assert _ids(answer) == [["long", "short"]]
    assert [(match.first, match.stop) for match in answer.matches[0]] == [(2, 5), (0, 2)]
    whole = index.retrieve([Query(WORLD.tables[0][2], span=100)], 2, "segments")
    assert [(match.first, match.stop) for match in whole.matches[0]] == [(0, 2), (0, 6)]


def test_latents_put_the_best_in_order_anew(index: Index) -> None:
    row = WORLD.tables[0][4]
    other = np.roll(row, 1)
    index.upsert(
        [
            Item(id="near", codes=codes(_clip(4)), latents=row + 0.1 * other),
            Item(id="far", codes=codes(_clip(4)), latents=row + other),
            Item(id="none", codes=codes(_clip(4))),
            Item(id="else", codes=codes(_clip(5)), latents=row),
        ]
    )
    answer = index.retrieve([Query(row, latents=row)], 3, "latents")
    assert _ids(answer) == [["none", "else", "near"]]
    assert answer.matches[0][0].score == pytest.approx(1.0, abs=1e-3)


def test_packed_latents_keep_their_direction() -> None:
    rng = np.random.default_rng(1)
    for vector in (rng.normal(size=64), np.zeros(8), np.array([1e-30, 0.0])):
        unpacked = unpacked_latents(packed_latents(vector))
        assert np.abs(unpacked - vector).max() <= np.abs(vector).max() / 250
    with pytest.raises(InvalidItem, match="finite"):
        Item(id="a", codes=codes(_clip(1)), latents=np.array([np.nan]))


def test_items_are_read_back_as_they_were(catalogue: Catalogue, index: Index) -> None:
    metadata = {"é": [1, 2.5, None, True, {"deep": "\U0001f436"}], "big": 2**63}
    index.upsert([item("x", _clip(1, 2, 3), 1, **metadata)])
    stored = index.get("x")
    assert stored is not None
    assert stored.codes.to_bytes() == codes(_clip(1, 2, 3), 1).to_bytes()
    assert (stored.metadata, stored.version, stored.created) == (metadata, 1, stored.updated)
    index.upsert([item("x", _clip(1))])
    again = index.get("x")
    assert again is not None
    assert again.created == stored.created < again.updated
    assert index.get("y") is None
    catalogue.close()
    assert catalogue.get("default", REVISION).get("x") == again


def test_lists_go_on_where_they_ended(index: Index) -> None:
    names = [f"{n:02}" for n in range(25)]
    index.upsert([item(name, _clip(1), int(name) % 3) for name in reversed(names)])
    seen, cursor, pages = [], None, 0
    while True:
        page = index.page(cursor, limit=10)
        seen += [stored.id for stored in page.items]
        cursor, pages = page.cursor, pages + 1
        if cursor is None:
            break
    assert (seen, pages) == (names, 3)
    assert [stored.id for stored in index.page(limit=3, modality="text").items] == ["02", "05", "08"]


def test_a_write_that_comes_twice_is_done_once(index: Index) -> None:
    first = index.upsert([item("a", _clip(1))], token="t")
    assert index.upsert([item("a", _clip(1))], token="t") == first
    assert index.version == 1
    with pytest.raises(KeyReused):
        index.upsert([item("a", _clip(2))], token="t")
    with pytest.raises(KeyReused):
        index.delete(["a"], token="t")
    assert index.delete(["a"], token="u") == index.delete(["a"], token="u") == (2, ["deleted"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: [item("", _clip(1))], "id: must have"),
        (lambda: [item("x" * (LONGEST_ID + 1), _clip(1))], "id: must have"),
        (lambda: [item("a\0b", _clip(1))], "none of them zero"),
        (lambda: [item("\ud800", _clip(1))], "whole Unicode"),
        (lambda: [item("a", _clip(1)), item("a", _clip(2))], "two have the same id"),
        (lambda: [item("a", _clip(20))], "not in the codebook"),
        (lambda: [item("a", np.zeros((0, 1), int))], "codes, not 0"),
        (lambda: [item("a", _clip(1), text="x" * LARGEST_METADATA)], "at most 32768 bytes"),
        (lambda: [item("a", _clip(1), value={1, 2})], "JSON values"),
        (lambda: [item("a", _clip(1), value=2**70)], "JSON values"),
        (lambda: [Item(id="a", codes=codes(_clip(1)), latents=np.zeros(3))], "latents are 8 numbers"),
    ],
)
def test_an_item_that_cannot_be_kept_keeps_none(index: Index, make: object, sentence: str) -> None:
    with pytest.raises(InvalidItem, match=sentence):
        index.upsert([item("good", _clip(1)), *make()])  # type: ignore[operator]
    assert index.version == 0
    assert index.page().items == []


def test_stats_count(index: Index) -> None:
    index.upsert([item(f"{n}", _clip(n % 4), n % 3) for n in range(10)])
    index.delete(["0"])
    stats = index.stats()
    assert stats["items"] == 9
    assert stats["modalities"] == {"audio": 3, "video": 3, "text": 3}
    assert (stats["index_version"], stats["model_revision"]) == (2, REVISION)
    assert stats["kernels"] == ("compiled" if kernels.COMPILED else "numpy")
    orjson.dumps(stats)


def test_a_catalogue_keeps_indexes_apart(catalogue: Catalogue, tmp_path: Path) -> None:
    one, two = catalogue.create("one", REVISION), catalogue.create("two", REVISION)
    one.upsert([item("a", _clip(1))])
    assert two.page().items == []
    assert catalogue.names() == ["one", "two"]
    with pytest.raises(IndexExists):
        catalogue.create("one", REVISION)
    with pytest.raises(ModelMismatch):
        catalogue.get("one", "sha256:other")
    with pytest.raises(ModelMismatch):
        catalogue.create("three", "sha256:other")
    catalogue.close()
    other = Catalogue(tmp_path / "indexes", {REVISION: WORLD.space, "sha256:other": WORLD.space})
    with pytest.raises(ModelMismatch):
        other.get("one", "sha256:other")
    other.delete("one")
    assert other.names() == ["two"]
    with pytest.raises(IndexUnknown):
        other.get("one", REVISION)
    with pytest.raises(IndexUnknown):
        other.delete("one")
    for name in ("", "Up", "-a", "a" * 64, "../x", "a.b", "é"):
        with pytest.raises(InvalidItem, match="1 to 63"):
            other.get(name, REVISION)
    assert sorted(path.name for path in (tmp_path / "indexes").iterdir() if "one" in path.name) == []


def test_queries_writes_and_compaction_at_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query reads one version: all items have the same mark in it, in arrays and store alike."""
    monkeypatch.setattr(code_index, "JOINED", 16)
    ids = [f"{n}" for n in range(12)]
    done, failures = Event(), list[BaseException]()
    index.upsert([item(id, _clip(0), mark=1) for id in ids])

    def read() -> None:
        try:
            while not done.is_set():
                answer = index.retrieve([_query(1)], 100)
                marks = {answer.items[match.key].metadata["mark"] for match in answer.matches[0]}
                assert (sorted(_ids(answer)[0]), marks) == (sorted(ids), {answer.version})
                few = index.retrieve([_query(1)], 100, filter=parse({"mark": answer.version}))
                assert len(few.matches[0]) == (12 if few.version == answer.version else 0)
        except BaseException as error:
            failures.append(error)

    readers = [Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(2, 60):
        index.upsert([item(id, _clip(version % 20), mark=version) for id in ids])
    done.set()
    for reader in readers:
        reader.join()
    assert not failures


def test_without_numba_the_answers_are_the_same(index: Index, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    index.upsert([item(f"{n}", rng.integers(0, 20, (int(rng.integers(1, 9)), 1))) for n in range(200)])
    answer = index.retrieve([_query(7)], 20)
    index.close()
    program = """
import sys
sys.modules["numba"] = None
from importlib import util
real = util.find_spec
util.find_spec = lambda name, *rest: None if name == "numba" else real(name, *rest)
from pathlib import Path
from tests.service.index.test_index import REVISION, WORLD, _ids, _query
from service.index.catalogue import Catalogue
index = Catalogue(Path(sys.argv[1]), {REVISION: WORLD.space}).get("default", REVISION)
answer = index.retrieve([_query(7)], 20)
print(index.stats()["kernels"], _ids(answer), [match.score for match in answer.matches[0]])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "indexes")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == f"numpy {_ids(answer)} {[match.score for match in answer.matches[0]]}"
