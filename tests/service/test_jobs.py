"""The queue: every window comes out once, in batches of one key within the limit, oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.jobs import Job, Slice, WindowQueue
from tessera.windows import Window

LIMIT = 12
SIZES = st.integers(1, 5)
JOBS = st.lists(st.lists(SIZES, min_size=1, max_size=8), max_size=12)


def window(segments: int, value: float = 0.0) -> Window:
    return Window(
        "audio", {"features": np.full((segments, 2), value, np.float32)}, segments, stage="features"
    )


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def job(loop: asyncio.AbstractEventLoop, sizes: Sequence[int]) -> Job:
    return Job([window(size) for size in sizes], loop.create_future())


def taken(batch: list[Slice]) -> list[tuple[Job, int]]:
    return [(part.job, position) for part in batch for position in part.positions]


@given(sizes=JOBS)
def test_every_window_comes_out_once_in_a_batch_of_one_key_within_the_limit(
    loop: asyncio.AbstractEventLoop, sizes: list[list[int]]
) -> None:
    queue = WindowQueue(LIMIT)
    jobs = [job(loop, each) for each in sizes]
    for each in jobs:
        queue.push(each)
    seen: list[tuple[Job, int]] = []
    while batch := queue.next_batch():
        windows = [window for part in batch for window in part.windows]
        assert len({window.key for window in windows}) == 1
        assert len({id(part.job) for part in batch}) == len(batch)
        assert sum(window.segments for window in windows) <= LIMIT
        seen += taken(batch)
    assert not queue
    expected = [(each, position) for each in jobs for position in range(len(each.windows))]
    assert sorted(map(repr, seen)) == sorted(map(repr, expected))


@given(sizes=JOBS.filter(bool))
def test_the_oldest_job_is_always_in_the_next_batch(
    loop: asyncio.AbstractEventLoop, sizes: list[list[int]]
) -> None:
    queue = WindowQueue(LIMIT)
    jobs = [job(loop, each) for each in sizes]
    left = {id(each): len(each.windows) for each in jobs}
    for each in jobs:
        queue.push(each)
    while batch := queue.next_batch():
        oldest = next(each for each in jobs if left[id(each)])
        assert oldest is batch[0].job
        for each, _ in taken(batch):
            left[id(each)] -= 1


@given(sizes=JOBS, cancelled=st.sets(st.integers(0, 11)))
def test_cancelled_jobs_never_reach_a_batch(
    loop: asyncio.AbstractEventLoop, sizes: list[list[int]], cancelled: set[int]
) -> None:
    queue = WindowQueue(LIMIT)
    jobs = [job(loop, each) for each in sizes]
    for index, each in enumerate(jobs):
        queue.push(each)
        if index in cancelled:
            each.future.cancel()
    served = set()
    while batch := queue.next_batch():
        served |= {id(part.job) for part in batch}
    assert served == {id(each) for index, each in enumerate(jobs) if index not in cancelled}


def test_a_window_above_the_limit_runs_alone(loop: asyncio.AbstractEventLoop) -> None:
    queue = WindowQueue(LIMIT)
    queue.push(job(loop, [LIMIT + 1, LIMIT + 1]))
    assert [len(taken(queue.next_batch())) for _ in range(3)] == [1, 1, 0]
