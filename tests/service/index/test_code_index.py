"""Versions of the arrays: writes, compaction and queries at once, against a dictionary and numpy."""

from __future__ import annotations

import itertools
import sys
from threading import Event, Lock, Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from service.index import code_index
from service.index.code_index import CodeIndex
from service.index.query import PooledQuery
from service.index.snapshot import Snapshot
from tests.service.index.worlds import Clip, CodeWorld, rows

WORLD = CodeWorld((np.round(np.random.default_rng(0).normal(size=(5, 3)) * 2),), 1)
SPACE = WORLD.space


class _Model:
    """What a store would say: ids, keys and clips of the items that live."""

    def __init__(self) -> None:
        self.index = CodeIndex(SPACE)
        self.live: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.clips: dict[int, Clip] = {}
        self._keys = itertools.count(1)

    def write(self, ids: list[str], made: list[Clip]) -> None:
        removed = [self.live[id] for id in ids if id in self.live]
        keys = [next(self._keys) for _ in ids]
        self.live.update(zip(ids, keys, strict=True))
        self.names.update(zip(keys, ids, strict=True))
        self.clips.update(zip(keys, made, strict=True))
        self._publish(rows(SPACE, made)._replace(keys=np.array(keys)), ids, removed)

    def delete(self, ids: list[str]) -> None:
        self._publish(None, [], [self.live.pop(id) for id in ids if id in self.live])

    def _publish(self, added: object, ids: list[str], removed: list[int]) -> None:
        version = self.index.snapshot.version + 1
        self.index.publish(self.index.changed(version, added, ids, np.array(removed, np.int64)))  # type: ignore[arg-type]

    def keys_by_id(self) -> NDArray[np.int64]:
        return np.array([self.live[id] for id in sorted(self.live)], np.int64)

    def ids(self, snapshot: Snapshot, query: NDArray[np.float64], count: int) -> list[tuple[float, str]]:
        found = snapshot.search(
            PooledQuery.of(SPACE, query), count, lambda keys: {k: self.names[k] for k in keys}
        )
        return [(match.score, self.names[match.key]) for match in found]


class Versions(RuleBasedStateMachine):
    """Any history of writes leaves what the last of them said; a version that is held stays as it was."""

    @initialize()
    def begin(self) -> None:
        self.model = _Model()
        self.kept: list[tuple[Snapshot, list[tuple[float, str]]]] = []

    @rule(data=st.data())
    def upsert(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.text("abé", min_size=1, max_size=3), min_size=1, max_size=8, unique=True))
        rng = np.random.default_rng(data.draw(st.integers(0, 999)))
        self.model.write(ids, [rng.integers(0, 5, (rng.integers(1, 4), 1)) for _ in ids])

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.model.delete(
            data.draw(st.lists(st.sampled_from(["zzz", *self.model.live]), unique=True, max_size=6))
        )

    @rule()
    def compact(self) -> None:
        self.model.index.compact(self.model.keys_by_id, Lock())
        assert len(self.model.index.snapshot.held) <= 1

    @rule(seed=st.integers(0, 99))
    def hold(self, seed: int) -> None:
        snapshot = self.model.index.snapshot
        self.kept.append((snapshot, self.model.ids(snapshot, np.eye(3)[0], 100)))

    @invariant()
    def answers_are_those_of_what_lives(self) -> None:
        snapshot = self.model.index.snapshot
        assert snapshot.count == len(self.model.live)
        query = np.array([1.0, 0.5, -0.25])
        everything = self.model.ids(snapshot, query, 1000)
        assert sorted(id for _, id in everything) == sorted(self.model.live)
        assert everything == sorted(everything, key=lambda pair: (-pair[0], pair[1]))
        assert self.model.ids(snapshot, query, 3) == everything[:3]
        for score, id in everything:
            assert score == pytest.approx(
                WORLD.pooled(self.model.clips[self.model.live[id]], query), abs=1e-5
            )

    @invariant()
    def held_versions_stay(self) -> None:
        for snapshot, found in self.kept:
            assert self.model.ids(snapshot, np.eye(3)[0], 100) == found


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=25, stateful_step_count=20)


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_what_dies_while_parts_are_put_together_stays_dead(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = _Model()
    for batch in range(4):
        model.write([f"{batch}-{i}" for i in range(10)], list(rng.integers(0, 5, (10, 3, 1))))

    def meanwhile() -> NDArray[np.int64]:
        model.delete([f"{rng.integers(4)}-{i}" for i in range(0, 10, 2)])
        by_id = model.keys_by_id()
        model.write(["0-1", "3-3", "new"], list(rng.integers(0, 5, (3, 2, 1))))
        model.write(["more"], list(rng.integers(0, 5, (1, 2, 1))))
        return by_id

    model.index.compact(meanwhile, Lock())
    found = model.ids(model.index.snapshot, np.ones(3), 100)
    assert sorted(id for _, id in found) == sorted(model.live)
    for score, id in found:
        assert score == pytest.approx(WORLD.pooled(model.clips[model.live[id]], np.ones(3)), abs=1e-5)


def test_queries_read_one_version_while_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version holds all ids, each with the clip of that version: a query that mixed two would tell."""
    monkeypatch.setattr(code_index, "JOINED", 64)
    model, failures, done, lock = _Model(), list[BaseException](), Event(), Lock()
    ids = [f"{n:02}" for n in range(40)]
    versions = [np.full((1 + version % 3, 1), version % 5) for version in range(100)]
    model.write(ids, [versions[1]] * 40)

    def read() -> None:
        try:
            while not done.is_set():
                snapshot = model.index.snapshot
                found = model.ids(snapshot, np.array([1.0, 2.0, 3.0]), 100)
                expected = WORLD.pooled(versions[snapshot.version], np.array([1.0, 2.0, 3.0]))
                assert [id for _, id in found] == ids
                assert all(abs(score - expected) < 1e-5 for score, _ in found)
        except BaseException as error:
            failures.append(error)

    def compact() -> None:
        try:
            while not done.is_set():
                model.index.compact(model.keys_by_id, lock)
        except BaseException as error:
            failures.append(error)

    readers = [Thread(target=read) for _ in range(3)] + [Thread(target=compact)]
    with _switching():
        for reader in readers:
            reader.start()
        for version in range(2, 100):
            with lock:
                model.write(ids, [versions[version]] * 40)
        done.set()
        for reader in readers:
            reader.join()
    assert not failures


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are joined up to a size, at any size."""
    monkeypatch.setattr(code_index, "JOINED", 32)


class _switching:
    """Threads take turns as often as they can."""

    def __enter__(self) -> None:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._interval)


def test_a_write_costs_no_more_than_a_bound() -> None:
    model = _Model()
    rng = np.random.default_rng(5)
    for number in range(200):
        model.write([f"{number}"], list(rng.integers(0, 5, (1, 4, 1))))
        sizes = [len(held.part) for held in model.index.snapshot.held]
        assert max(sizes) <= code_index.JOINED
        assert sum(size < code_index.JOINED // 2 for size in sizes) <= 6
