"""The scheduler: every job gets its own answers and its own failures, whatever rides beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.costs import Costs
from service.errors import ApiError
from service.fair_queue import BatchBounds
from service.jobs import Answer
from service.scheduler import BatchReport, Model, Scheduler
from tessera.tokenizer import Tokenizer
from tessera.windows import Arrays, Modality, Stage
from tests.service.running import EvenCosts
from tests.service.work import block

POISON = -1.0
IDLE = 0.0
BOUNDS = BatchBounds(segments=12, micros=12_000_000)


@dataclass(frozen=True)
class Ran:
    """A batch that a device ran: the value of each window."""

    values: list[float]
    segments: int
    full: bool


@dataclass
class Graphs:
    """What a scheduler needs of a tokenizer: it remembers its batches, fails on poison, and waits for `gate`."""

    name: str = "one"
    ran: list[Ran] = field(default_factory=list)
    idle: int = 0
    dead: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(time_grid=SimpleNamespace(window_segments=10))
    )

    def __post_init__(self) -> None:
        self.gate.set()

    def warm_up(self) -> None:
        """Nothing is to be warmed."""

    def idle_batches(self, segments: int = 1) -> Iterator[tuple[Modality, Stage, Arrays]]:
        """One that holds nothing."""
        yield "audio", "features", block(segments, IDLE).inputs

    def run_batch(
        self, modality: Modality, stage: Stage, batch: Mapping[str, NDArray[Any]], *, full: bool = True
    ) -> Arrays:
        """The value of each window is its code."""
        self.gate.wait(300)
        if self.dead:
            raise SystemExit
        features = batch["features"]
        values = features[:, 0, 0].tolist()
        if values == [IDLE]:
            self.idle += 1
        else:
            self.ran.append(Ran(values, features.shape[1] * len(values), full))
        if POISON in values:
            raise ValueError("poison")
        codes = features[:, :, :1].astype(np.int64)
        return {"codes": codes, "margins": codes * 0.5} if full else {"codes": codes}

    @property
    def model(self) -> Model:
        """As a scheduler takes it; a segment costs a second."""
        return Model(self.name, cast(Tokenizer, self), 1.0, EvenCosts())


def scheduler_of(*graphs: Graphs, **options: Any) -> Scheduler:
    """A scheduler that finds nothing wrong with a slow machine."""
    return Scheduler(
        [each.model for each in graphs], BOUNDS, **{"stall_seconds": 300, "canary_seconds": 300} | options
    )


@asynccontextmanager
async def running(*graphs: Graphs, **options: Any) -> AsyncIterator[Scheduler]:
    """A scheduler past its warm-up; at the end it runs what is left."""
    scheduler = scheduler_of(*graphs, **options)
    scheduler.start()
    while not scheduler.warm:
        await asyncio.sleep(0.001)
    yield scheduler
    await scheduler.close(timeout=300)
    assert scheduler.waiting == 0


async def busy(scheduler: Scheduler, graphs: Graphs) -> asyncio.Future[Answer]:
    """Keep the device of `graphs` at a batch until its gate is opened."""
    graphs.gate.clear()
    first = scheduler.submit(graphs.name, [block(1, 1)])
    while not scheduler._running:
        await asyncio.sleep(0.001)
    return first


def values_of(answer: Answer) -> list[list[int | None]]:
    """The code of each window of each block; None where it failed."""
    return [
        [
            None if row in each.failures else int(each.outputs["codes"][row, 0, 0])
            for row in range(len(each.outputs.get("codes", each.failures)))
        ]
        for each in answer.blocks
    ]


JOBS = st.lists(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.lists(st.just(POISON) | st.integers(1, 10**6).map(float), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=8,
)


@given(jobs=JOBS, is_busy=st.booleans(), data=st.data())
def test_promise_2_each_job_gets_its_own_answers_and_only_poison_fails(
    jobs: list[list[tuple[int, list[float]]]], is_busy: bool, data: st.DataObject
) -> None:
    graphs = Graphs()
    full = data.draw(st.lists(st.booleans(), min_size=len(jobs), max_size=len(jobs)))

    async def scenario() -> list[Answer]:
        async with running(graphs) as scheduler:
            if is_busy:
                graphs.gate.clear()
            futures = [
                scheduler.submit("one", [block(size, *values) for size, values in each], full=wants)
                for each, wants in zip(jobs, full, strict=True)
            ]
            graphs.gate.set()
            return await asyncio.gather(*futures)

    for each, wants, answer in zip(jobs, full, asyncio.run(scenario()), strict=True):
        expected = [[None if value == POISON else value for value in values] for _, values in each]
        assert values_of(answer) == expected
        for (_, values), answered in zip(each, answer.blocks, strict=True):
            assert set(answered.failures) == {row for row, value in enumerate(values) if value == POISON}
            assert all(str(error) == "poison" for error in answered.failures.values())
            assert not wants or not answered.outputs or "margins" in answered.outputs
    assert all(each.segments <= BOUNDS.segments for each in graphs.ran)


def test_windows_that_wait_share_a_batch_whatever_their_lane() -> None:
    graphs = Graphs()
    reports: list[BatchReport] = []

    async def scenario() -> None:
        async with running(graphs, on_batch=reports.append) as scheduler:
            await busy(scheduler, graphs)
            for value in range(1, 6):
                lane: Any = "bulk" if value % 2 else "interactive"
                scheduler.submit("one", [block(2, value)], lane=lane, full=False)
            graphs.gate.set()

    asyncio.run(scenario())
    assert [(report.windows, report.segments, report.fill) for report in reports] == [
        (1, 1, 1 / 12),
        (5, 10, 10 / 12),
    ]
    assert [each.full for each in graphs.ran] == [True, False]


def test_models_on_one_device_run_one_at_a_time_and_never_in_one_batch() -> None:
    one, two = Graphs("one"), Graphs("two")

    async def scenario() -> list[list[list[int | None]]]:
        async with running(one, two) as scheduler:
            first = await busy(scheduler, one)
            rest = [
                scheduler.submit(name, [block(1, value)])
                for name, value in (("two", 2), ("one", 3), ("two", 4))
            ]
            one.gate.set()
            return [values_of(answer) for answer in await asyncio.gather(first, *rest)]

    assert asyncio.run(scenario()) == [[[1]], [[2]], [[3]], [[4]]]
    assert [each.values for each in two.ran] == [[2, 4]]
    assert [each.values for each in one.ran] == [[1], [3]]


def test_the_next_full_batch_is_stacked_while_the_device_is_busy() -> None:
    graphs = Graphs()

    async def scenario() -> None:
        async with running(graphs) as scheduler:
            await busy(scheduler, graphs)
            scheduler.submit("one", [block(2, 2)])
            await asyncio.sleep(0.02)
            assert scheduler._ready is None  # less than a batch is left to grow
            for value in range(3, 9):
                scheduler.submit("one", [block(2, value)])
            while scheduler._ready is None:
                await asyncio.sleep(0.001)
            scheduler.submit("one", [block(2, 9)])
            await asyncio.sleep(0)  # what is submitted in one turn of the loop is sent at its end
            assert scheduler._ready.inputs["features"].shape == (6, 2, 2)
            graphs.gate.set()

    asyncio.run(scenario())
    assert [each.values for each in graphs.ran] == [[1], [2, 3, 4, 5, 6, 7], [8, 9]]


def test_a_device_that_idles_hears_of_every_job() -> None:
    """Also when the thread that stacks has taken it out of the inbox: the canary, which would wake it, never comes."""

    async def scenario() -> None:
        async with running(Graphs()) as scheduler:
            for value in range(1, 500):
                scheduler._asked.put(True)
                answer = await scheduler.submit("one", [block(1, value)])
                assert values_of(answer) == [[value]]

    asyncio.run(scenario())


def test_cancelled_work_does_not_reach_the_device() -> None:
    graphs = Graphs()

    async def scenario() -> None:
        async with running(graphs) as scheduler:
            await busy(scheduler, graphs)
            dropped = scheduler.submit("one", [block(2, 2), block(3, 2)])
            scheduler.submit("one", [block(2, 3)])
            dropped.cancel()
            await asyncio.sleep(0)
            assert scheduler.waiting == 2
            graphs.gate.set()

    asyncio.run(scenario())
    assert [each.values for each in graphs.ran] == [[1], [3]]


def test_a_deadline_that_passes_in_the_queue_is_answered_and_the_work_dropped() -> None:
    graphs = Graphs()

    async def scenario() -> ApiError:
        async with running(graphs) as scheduler:
            await busy(scheduler, graphs)
            late = scheduler.submit("one", [block(2, 2), block(3, 2)], deadline=time.perf_counter())
            scheduler.submit("one", [block(2, 3)], deadline=time.perf_counter() + 300)
            graphs.gate.set()
            with pytest.raises(ApiError) as caught:
                await late
            return caught.value

    assert asyncio.run(scenario()).code == "deadline_exceeded"
    assert [each.values for each in graphs.ran] == [[1], [3]]


def test_closing_runs_what_was_submitted() -> None:
    graphs = Graphs()

    async def scenario() -> list[list[list[int | None]]]:
        scheduler = scheduler_of(graphs)
        scheduler.start()
        graphs.gate.clear()
        futures = [scheduler.submit("one", [block(1, value), block(3, value)]) for value in range(1, 30)]
        closing = asyncio.ensure_future(scheduler.close(timeout=300))
        graphs.gate.set()
        answers = await asyncio.gather(*futures)
        await closing
        return [values_of(answer) for answer in answers]

    assert asyncio.run(scenario()) == [[[value], [value]] for value in range(1, 30)]


def test_a_dead_device_fails_every_job_once_and_is_not_alive(caplog: pytest.LogCaptureFixture) -> None:
    graphs = Graphs()
    lost: list[bool] = []

    async def scenario() -> None:
        async with running(graphs, on_lost=lambda: lost.append(True)) as scheduler:
            first = await busy(scheduler, graphs)
            futures = [first, *(scheduler.submit("one", [block(size, 2)]) for size in (1, 2, 3))]
            assert scheduler.alive
            graphs.dead = True
            graphs.gate.set()
            for future in futures:
                with pytest.raises(ApiError, match="device") as caught:
                    await future
                assert caught.value.code == "device_lost"
            assert not scheduler.alive
            with pytest.raises(ApiError, match="device"):
                scheduler.submit("one", [block(1, 2)])
            for thread in (*scheduler._streams, scheduler._stacker):
                thread.join(60)
                assert not thread.is_alive()

    asyncio.run(scenario())
    assert lost == [True]
    assert "a thread of the device died" in caplog.text


def test_an_end_that_was_asked_for_is_no_loss() -> None:
    lost: list[bool] = []

    async def scenario() -> None:
        async with running(Graphs(), on_lost=lambda: lost.append(True)) as scheduler:
            pass
        for thread in (*scheduler._streams, scheduler._stacker):
            await asyncio.to_thread(thread.join, 60)
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert lost == []


def test_a_batch_that_hangs_is_not_alive() -> None:
    graphs = Graphs()

    async def scenario() -> None:
        async with running(graphs, stall_seconds=0.01) as scheduler:
            hanging = await busy(scheduler, graphs)
            while scheduler.alive:
                await asyncio.sleep(0.001)
            assert scheduler.oldest_sec > 0.01
            await scheduler.close(timeout=0.01)  # it is left behind
            graphs.gate.set()
            await hanging

    asyncio.run(scenario())


def test_an_idle_device_is_tried_and_one_that_fails_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    graphs, other = Graphs(), Graphs("two")
    lost = threading.Event()

    async def scenario() -> None:
        async with running(graphs, other, canary_seconds=0.001, on_lost=lost.set) as scheduler:
            before = graphs.idle, other.idle
            while graphs.idle < before[0] + 3 or other.idle < before[1] + 3:
                await asyncio.sleep(0.001)
            assert values_of(await scheduler.submit("two", [block(1, 5)])) == [[5]]
            other.dead = True
            while not lost.is_set():
                await asyncio.sleep(0.001)
            assert not scheduler.alive

    asyncio.run(scenario())
    assert "a thread of the device died" in caplog.text


class Ledger(Costs):
    """Costs that remember what they learnt from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Modality, Stage, int]] = []

    def observe(self, modality: Modality, stage: Stage, segments: int, seconds: float) -> None:
        """As `Costs`."""
        assert seconds >= 0
        self.seen.append((modality, stage, segments))
        super().observe(modality, stage, segments, seconds)


def test_costs_are_learnt_from_the_warm_up_and_from_every_batch_that_ran() -> None:
    graphs, ledger = Graphs(), Ledger()

    async def scenario() -> None:
        model = Model("one", cast(Tokenizer, graphs), 1.0, ledger)
        scheduler = Scheduler([model], BOUNDS, stall_seconds=300, canary_seconds=300)
        scheduler.start()
        await scheduler.submit("one", [block(4, 1, POISON, 3)])
        await scheduler.close(timeout=300)

    asyncio.run(scenario())
    assert ledger.seen == [("audio", "features", 10), ("audio", "features", 4), ("audio", "features", 4)]


@given(rates=st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=20), segments=st.integers(1, 100))
def test_a_cost_is_among_those_that_were_seen(rates: list[float], segments: int) -> None:
    costs = Costs()
    unknown = costs.micros("audio", "media", segments)
    for rate in rates:
        costs.observe("audio", "media", segments, rate * segments)
    learnt = costs.micros("audio", "media", segments)
    assert round(min(rates) * 1e6 * segments) - 1 <= learnt <= round(max(rates) * 1e6 * segments) + 1
    assert costs.micros("audio", "features", segments) == unknown
    assert costs.micros("audio", "media", 1) >= 1
