"""The queue: every window runs once, in batches within the bounds; who is next is fair, and nobody starves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import LANE_WEIGHTS, Batch, BatchBounds, FairQueue
from service.jobs import Job, Lane
from tests.service.work import block, job

BOUNDS = BatchBounds(segments=12, micros=40)
LONGEST = 14
"""Segments of a window, more than a batch may hold."""
DEAREST = 60
"""Microseconds of a window, more than a batch may cost."""
WEIGHTS = {"first": 3.0, "second": 1.0}
LANES: tuple[Lane, ...] = ("interactive", "bulk")

Flow = tuple[str, Lane]


@dataclass(frozen=True)
class Order:
    """A job of a test: blocks as (segments, windows), and microseconds of any window."""

    at: int
    model: str
    lane: Lane
    blocks: list[tuple[int, int]]
    micros: int

    def job(self, loop: asyncio.AbstractEventLoop, deadline: float | None = None) -> Job:
        blocks = [block(segments, *range(count)) for segments, count in self.blocks]
        return replace(
            job(loop, blocks, lane=self.lane, deadline=deadline), window_micros=[self.micros] * len(blocks)
        )

    @property
    def flow(self) -> Flow:
        return self.model, self.lane

    @property
    def windows(self) -> int:
        return sum(count for _, count in self.blocks)


SIZES = st.integers(1, 3) | st.just(LONGEST)
ORDERS = st.lists(
    st.builds(
        Order,
        at=st.integers(0, 300),
        model=st.sampled_from(sorted(WEIGHTS)),
        lane=st.sampled_from(LANES),
        blocks=st.lists(st.tuples(SIZES, st.integers(1, 8)), min_size=1, max_size=3),
        micros=st.integers(1, 20) | st.just(DEAREST),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def weight_of(flow: Flow) -> float:
    return WEIGHTS[flow[0]] * LANE_WEIGHTS[flow[1]]


def turn_of(batch: Batch) -> Flow:
    """Whose turn it was: it comes first."""
    return batch.model, batch.slices[0].job.lane


def windows_of(batch: Batch) -> Counter[tuple[int, int, int]]:
    return Counter(
        (id(part.job), part.block, row) for part in batch.slices for row in range(part.start, part.stop)
    )


def require_bounds(batch: Batch) -> None:
    parts = [(part, part.job.blocks[part.block]) for part in batch.slices]
    assert {each.key for _, each in parts} == {batch.key}
    assert batch.windows == sum(part.count for part, _ in parts)
    assert batch.segments == sum(part.count * each.segments for part, each in parts)
    assert batch.micros == sum(part.micros for part, _ in parts)
    if batch.windows > 1:
        assert batch.segments <= BOUNDS.segments
        assert batch.micros <= BOUNDS.micros


@given(orders=ORDERS)
def test_every_window_comes_out_once_in_a_batch_of_one_key_and_model_within_the_bounds(
    loop: asyncio.AbstractEventLoop, orders: list[Order]
) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    models: dict[int, str] = {}
    expected: Counter[tuple[int, int, int]] = Counter()
    jobs = []
    for order in orders:
        made = order.job(loop)
        jobs.append(made)
        models[id(made)] = order.model
        queue.push(order.model, made)
        expected.update(
            (id(made), index, row) for index, each in enumerate(made.blocks) for row in range(each.count)
        )
    assert queue.micros == sum(made.micros for made in jobs)
    seen: Counter[tuple[int, int, int]] = Counter()
    while queue:
        batch, late = queue.next_batch(now=0.0)
        assert batch is not None
        assert not late
        require_bounds(batch)
        assert {models[id(part.job)] for part in batch.slices} == {batch.model}
        seen += windows_of(batch)
    assert seen == expected
    assert queue.micros == 0
    assert queue.next_batch(now=0.0) == (None, [])


@dataclass(eq=False)
class Waiting:
    """A job that was admitted to the simulation, and what was done for others since."""

    order: Order
    job: Job
    windows_before: int
    left: int = field(init=False)
    turns: Counter[Flow] = field(default_factory=Counter)
    """What each flow was served in turns of its own."""
    runs: int = 0
    """Batches of the own flow."""

    def __post_init__(self) -> None:
        self.left = self.order.windows


@given(orders=ORDERS)
def test_nothing_starves(loop: asyncio.AbstractEventLoop, orders: list[Order]) -> None:
    """A device with a clock: while a job waits, each batch of its flow holds the oldest of the flow, and others are
    served no more than their weights say, give or take what a batch holds.
    """
    queue = FairQueue(WEIGHTS, BOUNDS)
    coming = sorted(orders, key=lambda order: order.at, reverse=True)
    waiting: list[Waiting] = []
    most = max(BOUNDS.micros, DEAREST)
    now = 0
    while coming or waiting:
        while coming and (coming[-1].at <= now or not waiting):
            order = coming.pop()
            now = max(now, order.at)
            made = order.job(loop)
            before = sum(each.left for each in waiting if each.order.flow == order.flow)
            waiting.append(Waiting(order, made, before))
            queue.push(order.model, made)
        batch, _ = queue.next_batch(now=0.0)
        assert batch is not None
        now += batch.micros
        flows = Counter[Flow]()
        counts = Counter[Job]()
        for part in batch.slices:
            flows[batch.model, part.job.lane] += part.micros
            counts[part.job] += part.count
        for flow in flows:
            oldest = next(each for each in waiting if each.order.flow == flow)
            assert oldest.job in counts
        for each in waiting:
            each.turns[turn_of(batch)] += flows[turn_of(batch)]
            each.runs += each.order.flow in flows
            each.left -= counts[each.job]
            if each.left == 0:
                _require_served_in_time(each, most)
        waiting = [each for each in waiting if each.left]


def _require_served_in_time(each: Waiting, most: int) -> None:
    own = each.order.flow
    assert each.runs <= each.windows_before + each.order.windows
    # The flow may be ahead by a batch of its own and one that it rode in; each of its batches costs `most` at most.
    clock = (each.runs + 2) * most / weight_of(own)
    for flow, served in each.turns.items():
        if flow != own:
            assert served <= clock * weight_of(flow) + most


def served_under_saturation(
    loop: asyncio.AbstractEventLoop, flows: dict[Flow, int], batches: int = 400
) -> Counter[Flow]:
    """What each flow is served, where some always waits; their windows have the segments that are given."""
    queue = FairQueue(WEIGHTS, BOUNDS)
    served: Counter[Flow] = Counter()
    deep: Counter[Flow] = Counter()
    for _ in range(batches):
        for (model, lane), segments in flows.items():
            while deep[model, lane] < 100:
                queue.push(model, Order(0, model, lane, [(segments, 20)], 2).job(loop))
                deep[model, lane] += 20
        batch, _ = queue.next_batch(now=0.0)
        assert batch is not None
        for part in batch.slices:
            served[batch.model, part.job.lane] += part.micros
            deep[batch.model, part.job.lane] -= part.count
    return served


@pytest.mark.parametrize("segments", [(1, 1), (1, 2), (5, 1), (5, 5)])
def test_busy_lanes_share_the_device_eight_to_one(
    loop: asyncio.AbstractEventLoop, segments: tuple[int, int]
) -> None:
    flows: dict[Flow, int] = {("first", "interactive"): segments[0], ("first", "bulk"): segments[1]}
    served = served_under_saturation(loop, flows)
    ratio = served["first", "interactive"] / served["first", "bulk"]
    assert ratio == pytest.approx(8, rel=0.1)


def test_busy_models_share_the_device_by_their_weights(loop: asyncio.AbstractEventLoop) -> None:
    flows: dict[Flow, int] = {(model, lane): 1 for model in WEIGHTS for lane in LANES}
    served = served_under_saturation(loop, flows, batches=2_000)
    whole = sum(weight_of(flow) for flow in flows)
    for flow in flows:
        assert served[flow] / sum(served.values()) == pytest.approx(weight_of(flow) / whole, rel=0.1)


def test_who_rides_along_pays_but_is_never_far_ahead(loop: asyncio.AbstractEventLoop) -> None:
    """Bulk rides beside a few interactive windows for long; then interactive work of another shape fills the device."""
    queue = FairQueue(WEIGHTS, BOUNDS)
    bulk = Order(0, "first", "bulk", [(1, 500)], 1).job(loop)
    queue.push("first", bulk)
    for _ in range(200):
        queue.push("first", Order(0, "first", "interactive", [(1, 1)], 1).job(loop))
        queue.next_batch(now=0.0)
    queue.push("first", Order(0, "first", "bulk", [(3, 1)], 1).job(loop))
    for _ in range(400):
        queue.push("first", Order(0, "first", "interactive", [(2, 6)], 1).job(loop))
    lanes = []
    while queue:
        batch, _ = queue.next_batch(now=0.0)
        assert batch is not None
        lanes.append(batch.slices[0].job.lane)
    first = lanes.index("bulk")
    assert first * 6 <= 3 * BOUNDS.micros * LANE_WEIGHTS["interactive"]


def test_younger_windows_that_ride_along_never_take_the_turn_of_an_older_one(
    loop: asyncio.AbstractEventLoop,
) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    queue.push("first", Order(0, "first", "bulk", [(1, 1)], 1).job(loop))
    queue.next_batch(now=0.0)
    old = Order(0, "first", "bulk", [(5, 1)], 1).job(loop)
    queue.push("first", old)
    for _ in range(1_000):
        queue.push("first", Order(0, "first", "interactive", [(1, 4)], 1).job(loop))
        queue.push("first", Order(0, "first", "bulk", [(1, 4)], 1).job(loop))
        batch, _ = queue.next_batch(now=0.0)
        assert batch is not None
        if old in {part.job for part in batch.slices}:
            return
    pytest.fail("the old window never ran")


def test_an_idle_flow_saves_nothing_up(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    for _ in range(100):
        queue.push("first", Order(0, "first", "interactive", [(1, 12)], 1).job(loop))
        queue.next_batch(now=0.0)
    for model in WEIGHTS:
        queue.push(model, Order(0, model, "interactive", [(1, 400)], 1).job(loop))
    turns = Counter[str]()
    for _ in range(20):
        batch, _ = queue.next_batch(now=0.0)
        assert batch is not None
        turns[batch.model] += 1
    assert turns["first"] >= 12


@given(orders=ORDERS, gone=st.sets(st.integers(0, 29)), late=st.sets(st.integers(0, 29)))
def test_cancelled_jobs_never_reach_a_batch_and_late_ones_are_returned_once(
    loop: asyncio.AbstractEventLoop, orders: list[Order], gone: set[int], late: set[int]
) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    jobs = []
    for index, order in enumerate(orders):
        jobs.append(order.job(loop, deadline=1.0 if index in late else 3.0))
        queue.push(order.model, jobs[-1])
        if index in gone:
            jobs[-1].future.cancel()
    returned: list[Job] = []
    ran: set[Job] = set()
    while queue:
        batch, dropped = queue.next_batch(now=2.0)
        for each in dropped:
            each.future.set_exception(TimeoutError())
            each.future.exception()
        returned += dropped
        if batch:
            require_bounds(batch)
            ran |= {part.job for part in batch.slices}
    assert queue.micros == 0
    numbers = set(range(len(jobs)))
    assert Counter(returned) == Counter(jobs[number] for number in numbers & late - gone)
    assert ran == {jobs[number] for number in numbers - late - gone}


def test_the_oldest_live_slice_comes_next_behind_dead_ones(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    dead, old, young = (Order(0, "first", "bulk", [(segments, 1)], 1).job(loop) for segments in (1, 2, 1))
    for each in (dead, old, young):
        queue.push("first", each)
    dead.future.cancel()
    batch, _ = queue.next_batch(now=0.0)
    assert batch is not None
    assert [part.job for part in batch.slices] == [old]


def test_what_waits_fills_a_batch_by_its_cost(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(WEIGHTS, BOUNDS)
    queue.push("first", Order(0, "first", "bulk", [(1, 3)], 13).job(loop))
    assert not queue.fills_a_batch
    queue.push("second", Order(0, "second", "bulk", [(1, 1)], 1).job(loop))
    assert queue.fills_a_batch


def test_a_batch_grows_no_further_than_what_is_in_it_can_wait(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(WEIGHTS, BatchBounds(segments=100, micros=1_000_000, streams=2))
    hurried = job(loop, [block(1, 0)], micros=100_000, deadline=1.0)
    patient = [job(loop, [block(1, value)], micros=100_000) for value in range(9)]
    for each in (hurried, *patient):
        queue.push("first", each)
    sizes = []
    while queue:
        batch, late = queue.next_batch(now=0.0)
        assert batch is not None
        assert not late
        sizes.append(batch.windows)
    # Beside another batch each window takes 0.2 seconds: five of them are done when the first has to be.
    assert sizes == [5, 5]


def test_what_cannot_be_in_time_makes_room_for_others_and_is_tried_alone(
    loop: asyncio.AbstractEventLoop,
) -> None:
    queue = FairQueue(WEIGHTS, BatchBounds(segments=100, micros=1_000_000))
    hopeless = [job(loop, [block(1, 0)], micros=100_000, deadline=0.05) for _ in range(2)]
    other = job(loop, [block(1, 1)], micros=100_000, deadline=9.0)
    for each in (hopeless[0], other):
        queue.push("first", each)
    batch, late = queue.next_batch(now=0.0)
    assert late == [hopeless[0]]
    assert batch is not None
    assert [part.job for part in batch.slices] == [other]
    queue.push("first", hopeless[1])
    batch, late = queue.next_batch(now=0.0)
    assert not late
    assert batch is not None
    assert [part.job for part in batch.slices] == [hopeless[1]]
    assert not queue
