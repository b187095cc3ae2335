"""Scores against dense float64, the compiled kernels against numpy, threads against none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.index import bitmaps, fast, plain
from service.index.building import build
from service.index.part import Part
from service.index.query import PooledQuery, SegmentQuery
from service.index.snapshot import Held, Snapshot
from service.index.space import LARGEST_WIDTH, CodeSpace
from tests.service.index.worlds import CodeWorld, clips, code_worlds, rows


def _snapshot(*parts: Part) -> Snapshot:
    return Snapshot(1, tuple(Held(part, bitmaps.full(len(part)), len(part)) for part in parts))


@given(st.data())
@settings(max_examples=60)
def test_scores_are_cosines(data: st.DataObject) -> None:
    world = data.draw(code_worlds())
    made = data.draw(clips(world, data.draw(st.integers(1, 60))))
    query = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=world.dim)
    span = data.draw(st.integers(1, 12))
    snapshot = _snapshot(build(world.space, rows(world.space, made)))
    pooled = snapshot.search(PooledQuery.of(world.space, query), len(made), dict)
    assert sorted(match.key for match in pooled) == list(range(1, len(made) + 1))
    for match in pooled:
        clip = made[match.key - 1]
        if world.is_steady(clip):
            assert match.score == pytest.approx(world.pooled(clip, query), abs=1e-5)
    for match in snapshot.search(SegmentQuery.of(world.space, query, span), len(made), dict):
        score, stretches = world.segments(made[match.key - 1], query, span)
        assert match.score == pytest.approx(score, abs=1e-5)
        assert match.first is not None
        assert stretches[match.first] == pytest.approx(score, abs=1e-5)
        assert match.stop == match.first + min(span, len(made[match.key - 1]))


@given(st.data())
@settings(max_examples=60)
def test_compiled_kernels_answer_as_numpy_does(data: st.DataObject) -> None:
    world = data.draw(code_worlds())
    space = world.space
    made = data.draw(clips(world, data.draw(st.integers(1, 300))))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    part = build(space, rows(space, made, rng.permutation(len(made))))
    query = rng.normal(size=world.dim) * data.draw(st.sampled_from([0.0, 1.0, 1e300]))
    mask = bitmaps.packed(rng.random(len(made)) < data.draw(st.sampled_from([0.0, 0.1, 1.0])))
    count = data.draw(st.integers(1, 20))
    for asked in (PooledQuery.of(space, query), SegmentQuery.of(space, query, data.draw(st.integers(1, 5)))):
        scores, found = plain.best_rows(part, asked, mask, count)
        for pool in (None, _POOL):
            fast_scores, fast_found = fast.best_rows(part, asked, mask, count, pool)
            assert fast_scores.tolist() == scores.tolist()
            assert fast_found.tolist() == found.tolist()
        every_scores, every = plain.best_rows(part, asked, mask, len(made))
        order = np.lexsort((part.ranks[every], -every_scores))
        assert found.tolist() == every[order][:count].tolist()


_POOL = ThreadPoolExecutor(2)


@given(st.data())
@settings(max_examples=40)
def test_queries_that_share_a_scan_answer_as_each_alone(data: st.DataObject) -> None:
    world = data.draw(code_worlds())
    space = world.space
    made = data.draw(clips(world, data.draw(st.integers(1, 300))))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    part = build(space, rows(space, made, rng.permutation(len(made))))
    queries = [
        PooledQuery.of(space, rng.normal(size=world.dim)) for _ in range(data.draw(st.integers(2, 35)))
    ]
    mask = bitmaps.packed(rng.random(len(made)) < data.draw(st.sampled_from([0.0, 0.1, 1.0])))
    count = data.draw(st.integers(1, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_HEAVY", data.draw(st.sampled_from([0.0, 0.25])))
        patch.setattr(fast, "_TOGETHER", 0.0)
        together = fast.best_rows_of_many(part, queries, mask, count)
    for query, (scores, found) in zip(queries, together, strict=True):
        alone_scores, alone = plain.best_rows(part, query, mask, count)
        assert scores.tolist() == alone_scores.tolist()
        assert found.tolist() == alone.tolist()


def test_threads_share_a_large_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_SHARED", 0)
    rng = np.random.default_rng(0)
    space = CodeSpace([rng.normal(size=(50, 16))])
    made = list(rng.integers(0, 50, (5_000, 4, 1)))
    part = build(space, rows(space, made, rng.permutation(5_000)))
    for _ in range(20):
        query = rng.normal(size=16)
        for asked in (PooledQuery.of(space, query), SegmentQuery.of(space, query, 2)):
            alone = plain.best_rows(part, asked, bitmaps.full(5_000), 30)
            shared = fast.best_rows(part, asked, bitmaps.full(5_000), 30, _POOL)
            assert [a.tolist() for a in shared] == [a.tolist() for a in alone]


def test_a_few_allowed_rows_are_found_wherever_they_are() -> None:
    rng = np.random.default_rng(4)
    space = CodeSpace([rng.normal(size=(60, 8))])
    made = [rng.integers(0, 60, (int(width), 1)) for width in rng.integers(1, 9, 20_000)]
    part = build(space, rows(space, made, rng.permutation(20_000)))
    for allowed in [[0], [19_999], [7, 8], *(rng.choice(20_000, 5) for _ in range(30))]:
        chosen = np.zeros(20_000, bool)
        chosen[allowed] = True
        mask = bitmaps.packed(chosen)
        query = rng.normal(size=8)
        for asked in (PooledQuery.of(space, query), SegmentQuery.of(space, query, 2)):
            scores, found = plain.best_rows(part, asked, mask, 4)
            fast_scores, fast_found = fast.best_rows(part, asked, mask, 4, _POOL)
            assert (fast_scores.tolist(), fast_found.tolist()) == (scores.tolist(), found.tolist())


def test_blocks_are_left_out() -> None:
    """Of clips with few codes the bounds exclude nearly all, and still nothing that should have been found."""
    rng = np.random.default_rng(1)
    space = CodeSpace([rng.normal(size=(64, 32))])
    main, other = rng.integers(0, 64, (2, 20_000))
    made = np.where(rng.random((20_000, 10)) < 0.8, main[:, None], other[:, None])[:, :, None]
    part = build(space, rows(space, list(made)))
    blocks = part.blocks
    scanned = []
    for code in range(64):
        asked = PooledQuery.of(space, space.rows[code] + 0.05 * rng.normal(size=32))
        scores, _ = plain.best_rows(part, asked, bitmaps.full(len(part)), 10)
        cosines = np.append(asked.dots[part.anchor_codes].sum(axis=1) * part.anchor_weights, 0.0)
        bounds = np.empty(len(blocks.anchors), np.float32)
        fast.compiled.bound_blocks(blocks.anchors, blocks.edges, cosines, np.sqrt(1 - cosines**2), bounds)
        scanned.append(np.diff(blocks.entries)[bounds >= scores[-1]].sum() / len(part.weights))
    assert np.mean(scanned) < 0.2


@given(st.data())
@settings(max_examples=40)
def test_no_entry_scores_more_than_its_block_allows(data: st.DataObject) -> None:
    world = data.draw(code_worlds())
    made = data.draw(clips(world, 200))
    part = build(world.space, rows(world.space, made))
    blocks = part.blocks
    query = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=world.dim)
    asked = PooledQuery.of(world.space, query)
    cosines = np.append(asked.dots[part.anchor_codes].sum(axis=1) * part.anchor_weights, 0.0)
    bounds = np.empty(len(blocks.anchors), np.float32)
    sines = np.sqrt(np.maximum(0.0, 1 - cosines**2))
    fast.compiled.bound_blocks(blocks.anchors, blocks.edges, cosines, sines, bounds)
    scores, found = plain.best_rows(part, asked, bitmaps.full(len(part)), len(part))
    block = np.searchsorted(blocks.entries, [part.entry_of(row) for row in found.tolist()], side="right") - 1
    assert (scores <= bounds[block] + fast.SLACK).all()


def test_equal_multisets_have_equal_scores_and_go_by_rank() -> None:
    rng = np.random.default_rng(2)
    space = CodeSpace([rng.normal(size=(40, 24))])
    clip = rng.integers(0, 40, (10, 1))
    made = [rng.permutation(clip) for _ in range(50)]
    part = build(space, rows(space, made, np.arange(50)[::-1]))
    found = _snapshot(part).search(PooledQuery.of(space, rng.normal(size=24)), 50, dict)
    assert len({match.score for match in found}) == 1
    assert [match.key for match in found] == list(range(50, 0, -1))


@pytest.mark.parametrize("width", [1, 16, 17, 128, 129, 1024, 1025, LARGEST_WIDTH])
def test_sums_of_any_width_are_exact(width: int) -> None:
    rng = np.random.default_rng(width)
    world = CodeWorld((rng.normal(size=(7, 3)),), 1)
    made = [np.full((width, 1), 3), rng.integers(0, 7, (width, 1))]
    query = world.tables[0][3]
    assert world.is_steady(made[1])
    found = _snapshot(build(world.space, rows(world.space, made))).search(
        PooledQuery.of(world.space, query), 2, dict
    )
    for match in found:
        assert match.score == pytest.approx(world.pooled(made[match.key - 1], query), abs=1e-5)


def test_what_cannot_be_scored_is_refused() -> None:
    space = CodeSpace([np.eye(4)])
    for codes in (
        np.zeros((0, 1), int),
        np.zeros((LARGEST_WIDTH + 1, 1), int),
        np.full((2, 1), 4),
        np.zeros((2, 2), int),
    ):
        with pytest.raises(ValueError, match="code"):
            space.flat(codes)
    for query in (np.zeros(3), np.array([1.0, np.nan, 0, 0])):
        with pytest.raises(ValueError, match="4 finite numbers"):
            PooledQuery.of(space, query)
    with pytest.raises(ValueError, match="span"):
        SegmentQuery.of(space, np.ones(4), 0)
