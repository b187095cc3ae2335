"""The histogram of one thread says what prometheus_client's says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from service.tally import Tally

BOUNDS = (0.5, 1, 2.5)
OBSERVED = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0, 100.0]))
)


@given(observed=OBSERVED)
def test_it_is_read_as_any_other_histogram(observed: list[tuple[str, float]]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    tally = Tally("seconds", "Time.", "stage", BOUNDS, registries[0])
    histogram = Histogram("seconds", "Time.", ["stage"], buckets=BOUNDS, registry=registries[1])
    for stage, seconds in observed:
        tally.observe(stage, seconds)
        histogram.labels(stage).observe(seconds)
    ours, theirs = (
        [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
        for registry in registries
    )
    assert ours == theirs
