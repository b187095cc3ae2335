"""The scheduler: every job gets its own answer or its own failure, whatever rides beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.admission import Admission
from service.errors import ApiError
from service.scheduler import BatchReport, GraphFailed, Scheduler
from tessera.windows import Window, WindowCodes
from tests.service.test_jobs import window

POISON = -1.0


def codes_of(item: Window) -> WindowCodes:
    """An answer that can be told from every other: the first value of the window."""
    values = item.inputs["features"][:, :1].astype(np.float32)
    return WindowCodes(values.astype(np.int64), values, values, values)


class Device:
    """A device that remembers its batches, fails on poison, and waits for `gate`."""

    def __init__(self) -> None:
        self.batches: list[list[Window]] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, windows: Sequence[Window]) -> list[WindowCodes]:
        self.gate.wait(300)
        self.batches.append(list(windows))
        if any((item.inputs["features"] == POISON).any() for item in windows):
            raise ValueError("poison")
        return [codes_of(item) for item in windows]


def scheduler_of(device: Device, **options: Any) -> Scheduler:
    return Scheduler(device.run, **{"max_batch_segments": 12, "stall_seconds": 60} | options)


def values_of(job: list[WindowCodes]) -> list[int]:
    return [int(codes.codes[0, 0]) for codes in job]


@settings(deadline=None)
@given(
    jobs=st.lists(
        st.lists(
            st.tuples(st.integers(1, 4), st.just(POISON) | st.integers(0, 10**6)), min_size=1, max_size=5
        ),
        max_size=10,
    ),
    busy=st.booleans(),
)
def test_promise_2_each_job_gets_its_own_answers_and_only_poison_fails(
    jobs: list[list[tuple[int, float]]], busy: bool
) -> None:
    device = Device()

    async def scenario() -> list[Any]:
        scheduler = scheduler_of(device)
        scheduler.start()
        if busy:
            device.gate.clear()
        futures = [scheduler.submit([window(size, value) for size, value in job]) for job in jobs]
        device.gate.set()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        await scheduler.close(timeout=300)
        assert scheduler.waiting == 0
        return outcomes

    for job, outcome in zip(jobs, asyncio.run(scenario()), strict=True):
        if any(value == POISON for _, value in job):
            assert isinstance(outcome, GraphFailed)
        else:
            assert values_of(outcome.codes) == [value for _, value in job]
    for batch in device.batches:
        assert len({item.key for item in batch}) == 1
        assert sum(item.segments for item in batch) <= 12


def test_windows_that_wait_share_a_batch() -> None:
    device = Device()
    reports: list[BatchReport] = []

    async def scenario() -> None:
        scheduler = scheduler_of(device, on_batch=reports.append)
        scheduler.start()
        device.gate.clear()
        first = scheduler.submit([window(1)])
        while not scheduler._running_since:
            await asyncio.sleep(0.001)
        rest = [scheduler.submit([window(2, value)]) for value in range(5)]
        device.gate.set()
        await asyncio.gather(first, *rest)
        await scheduler.close(timeout=300)

    asyncio.run(scenario())
    assert [(report.windows, report.segments) for report in reports] == [(1, 1), (5, 10)]


def test_cancelled_work_does_not_reach_the_device() -> None:
    device = Device()

    async def scenario() -> None:
        scheduler = scheduler_of(device)
        scheduler.start()
        device.gate.clear()
        first = scheduler.submit([window(1, 1)])
        while not scheduler._running_since:
            await asyncio.sleep(0.001)
        dropped, kept = scheduler.submit([window(2, 2)]), scheduler.submit([window(2, 3)])
        dropped.cancel()
        device.gate.set()
        await asyncio.gather(first, kept)
        await scheduler.close(timeout=300)

    asyncio.run(scenario())
    assert [item.inputs["features"][0, 0] for batch in device.batches for item in batch] == [1, 3]


def test_closing_runs_what_was_submitted() -> None:
    device = Device()

    async def scenario() -> list[int]:
        scheduler = scheduler_of(device)
        scheduler.start()
        device.gate.clear()
        futures = [scheduler.submit([window(1, value), window(3, value)]) for value in range(20)]
        closing = asyncio.ensure_future(scheduler.close(timeout=300))
        device.gate.set()
        answers = [await future for future in futures]
        await closing
        return [values_of(answer.codes)[1] for answer in answers]

    assert asyncio.run(scenario()) == list(range(20))


def test_a_dead_device_thread_fails_every_job_and_is_not_alive(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        gate = threading.Event()

        def die(windows: Sequence[Window]) -> list[WindowCodes]:
            gate.wait(300)
            raise SystemExit

        scheduler = Scheduler(die, max_batch_segments=12, stall_seconds=60)
        scheduler.start()
        futures = [scheduler.submit([window(size)]) for size in (1, 2, 3)]
        assert scheduler.alive
        gate.set()
        for future in futures:
            with pytest.raises(ApiError, match="device") as caught:
                await future
            assert caught.value.code == "device_lost"
        assert not scheduler.alive
        with pytest.raises(ApiError, match="device"):
            scheduler.submit([window(1)])
        await scheduler.close(timeout=300)

    asyncio.run(scenario())
    assert "the device thread died" in caplog.text


def test_a_batch_that_hangs_is_not_alive() -> None:
    device = Device()

    async def scenario() -> None:
        scheduler = scheduler_of(device, stall_seconds=0.01)
        scheduler.start()
        device.gate.clear()
        hanging = scheduler.submit([window(1)])
        while scheduler.alive:
            await asyncio.sleep(0.001)
        assert scheduler.oldest_sec > 0.01
        device.gate.set()
        await hanging
        assert scheduler.alive
        await scheduler.close(timeout=300)

    asyncio.run(scenario())


@given(steps=st.lists(st.tuples(st.sampled_from(["admit", "extend", "release"]), st.integers(1, 40))))
def test_admitted_cost_never_exceeds_the_capacity_and_all_comes_back(steps: list[tuple[str, int]]) -> None:
    admission = Admission(100, 1_000)
    leases = []
    for action, cost in steps:
        if action == "admit":
            if admission.used + cost <= 100:
                leases.append(admission.admit(cost))
            else:
                with pytest.raises(ApiError, match="queue is full"):
                    admission.admit(cost)
        elif action == "extend" and leases:
            leases[cost % len(leases)].extend(cost)
        elif leases:
            with leases.pop(cost % len(leases)):
                pass
        assert 0 <= admission.used <= 100
    for lease in leases:
        with lease:
            pass
    assert admission.used == 0


def test_a_request_that_could_never_fit_is_not_told_to_retry() -> None:
    with pytest.raises(ApiError) as caught:
        Admission(100, 1_000).admit(101)
    assert caught.value.code == "too_many_inputs"
    assert not caught.value.spec.retryable
