"""The metrics of several processes as those of one."""

from __future__ import annotations

from service.frontends.families import added, exposition_of, families_of, lasting
from service.metrics import Metrics


def counted(requests: int, route: str = "/tokenize") -> bytes:
    metrics = Metrics()
    for _ in range(requests):
        metrics.request(route, 200, 0.02)
    metrics.inflight += requests
    return metrics.exposition()


def values(text: bytes) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_counts_add_up_and_names_stay() -> None:
    one, two, other = counted(2), counted(3), counted(4, "/models")
    whole = values(exposition_of(added(map(families_of, (one, two, other)))))
    assert set(whole) == set(values(one)) | set(values(other))
    assert whole['tessera_requests_total{code="200",route="/tokenize"}'] == 5
    assert whole['tessera_requests_total{code="200",route="/models"}'] == 4
    assert whole['tessera_request_duration_seconds_bucket{le="0.025",route="/tokenize"}'] == 5
    assert whole['tessera_request_duration_seconds_bucket{le="0.01",route="/tokenize"}'] == 0
    assert whole['tessera_request_duration_seconds_count{route="/models"}'] == 4
    assert whole["tessera_inflight"] == 9
    start = "process_start_time_seconds"
    assert whole[start] == values(one)[start]
    assert [value for name, value in whole.items() if name.startswith("python_info")] == [1]


def test_one_process_alone_stays_as_it_is() -> None:
    text = counted(2)
    assert values(exposition_of(added([families_of(text)]))) == values(text)


def test_of_a_dead_process_its_counts_stay() -> None:
    left = values(exposition_of(lasting(families_of(counted(2)))))
    assert left['tessera_requests_total{code="200",route="/tokenize"}'] == 2
    assert "tessera_inflight" not in left
    assert not any(name.startswith("process_") for name in left)
