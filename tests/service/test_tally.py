"""What one thread counts is read as what prometheus_client counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.tally import Count, Tally

BOUNDS = (0.5, 1, 2.5)
OBSERVED = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0, 100.0]))
)
COUNTED = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["200", "503"]), st.integers(0, 9)))


@given(observed=OBSERVED)
def test_it_is_read_as_any_other_histogram(observed: list[tuple[str, float]]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    tally = Tally("seconds", "Time.", "stage", BOUNDS, registries[0])
    histogram = Histogram("seconds", "Time.", ["stage"], buckets=BOUNDS, registry=registries[1])
    for stage, seconds in observed:
        tally.observe(stage, seconds)
        histogram.labels(stage).observe(seconds)
    assert lines(registries[0]) == lines(registries[1])


@given(counted=COUNTED)
def test_it_is_read_as_any_other_counter(counted: list[tuple[str, str, int]]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    count = Count("requests", "Answered.", ["route", "code"], registries[0])
    counter = Counter("requests", "Answered.", ["route", "code"], registry=registries[1])
    for route, code, amount in counted:
        count.add((route, code), amount)
        counter.labels(route, code).inc(amount)
    assert lines(registries[0]) == lines(registries[1])


def lines(registry: CollectorRegistry) -> list[str]:
    """The text that Prometheus reads, without times of creation."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
