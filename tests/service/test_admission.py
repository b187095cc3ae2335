"""Admission: the room that is there is never exceeded, all of it comes back, and a refusal says what helps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import Admission, Lease, OwnRoom
from service.costs import Cost
from service.errors import ApiError

MICROS, BYTES = 10_000_000, 1_000
COSTS = st.builds(Cost, st.integers(0, MICROS + 1), st.integers(0, BYTES + 1))
STEPS = st.lists(
    st.tuples(st.sampled_from(["admit", "extend", "shrink", "release"]), COSTS, st.integers(0, 9)),
    max_size=60,
)


def admission_of() -> Admission:
    return Admission(OwnRoom(MICROS), OwnRoom(BYTES), max_request_segments=100, batch_micros=2_000_000)


def used(admission: Admission) -> Cost:
    return Cost(admission.micros.used, admission.bytes.used)


def refusal(admission: Admission, cost: Cost, seconds: float = math.inf) -> ApiError:
    before = used(admission)
    with pytest.raises(ApiError) as caught:
        admission.admit(cost, seconds)
    assert used(admission) == before
    return caught.value


@given(steps=STEPS)
def test_admitted_work_never_exceeds_the_room_and_all_of_it_comes_back(
    steps: list[tuple[str, Cost, int]],
) -> None:
    admission = admission_of()
    leases: list[tuple[Lease, Cost]] = []

    def fits(cost: Cost) -> bool:
        held = used(admission).plus(cost)
        return held.micros <= MICROS and held.bytes <= BYTES

    for action, cost, choice in steps:
        if action == "admit":
            if fits(cost):
                leases.append((admission.admit(cost), cost))
            else:
                impossible = cost.micros > MICROS or cost.bytes > BYTES
                assert refusal(admission, cost).code == ("too_many_inputs" if impossible else "overloaded")
        elif leases:
            lease, held = leases.pop(choice % len(leases))
            if action == "extend":
                expected = fits(cost)
                assert lease.extend(cost) == expected
                leases.append((lease, held.plus(cost) if expected else held))
            elif action == "shrink":
                part = Cost(min(cost.micros, held.micros), min(cost.bytes, held.bytes))
                lease.shrink(part)
                leases.append((lease, held.minus(part)))
            else:
                with lease:
                    pass
        total = Cost()
        for _, held in leases:
            total = total.plus(held)
        assert used(admission) == total
        assert total.micros <= MICROS
        assert total.bytes <= BYTES
    for lease, _ in leases:
        with lease:
            pass
    assert used(admission) == Cost()


@pytest.mark.parametrize(
    ("cost", "setting"),
    [
        (Cost(MICROS + 1, 1), "TESSERA_MAX_QUEUE_SECONDS"),
        (Cost(1, BYTES + 1), "TESSERA_MAX_QUEUE_BYTES"),
    ],
)
def test_a_request_that_could_never_fit_is_not_told_to_retry(cost: Cost, setting: str) -> None:
    error = refusal(admission_of(), cost)
    assert error.code == "too_many_inputs"
    assert not error.spec.retryable
    assert error.setting == setting
    assert error.limit is not None
    assert error.actual is not None
    assert error.actual > error.limit


def test_a_queue_longer_than_the_time_of_a_request_is_a_refusal_at_once() -> None:
    admission = admission_of()
    with admission.admit(Cost(6_000_000, 1)):
        error = refusal(admission, Cost(1, 1), seconds=5.9)
        assert error.code == "overloaded"
        assert error.spec.retryable
        assert error.retry_after == 3
        # Twice as much as is ahead may join the batches in between.
        assert refusal(admission, Cost(1, 1), seconds=8.0).code == "overloaded"
        with admission.admit(Cost(1, 1), seconds=8.000002):
            pass
    with admission.admit(Cost(1, 1), seconds=0.001):
        pass


def test_a_full_queue_says_when_to_come_back() -> None:
    admission = admission_of()
    with admission.admit(Cost(MICROS, 1)):
        assert not admission.accepts
        error = refusal(admission, Cost(1, 1))
        assert (error.code, error.retry_after, error.limit) == ("overloaded", 5, 10)
    with admission.admit(Cost(1, BYTES)):
        assert not admission.accepts
        assert refusal(admission, Cost(1, 1)).retry_after == 1
    assert admission.accepts


def test_a_server_that_shuts_down_admits_nobody_and_keeps_what_it_admitted() -> None:
    admission = admission_of()
    with admission.admit(Cost(5, 5)) as lease:
        admission.closed = True
        assert refusal(admission, Cost(1, 1)).code == "shutting_down"
        assert not admission.accepts
        assert lease.extend(Cost(1, 1))
    assert used(admission) == Cost()


def test_the_segments_of_a_request_are_bounded_together() -> None:
    with admission_of().admit(Cost()) as lease:
        lease.count(60)
        lease.count(40)
        with pytest.raises(ApiError) as caught:
            lease.count(1)
    assert (caught.value.code, caught.value.limit, caught.value.actual) == ("too_many_segments", 100, 101)
