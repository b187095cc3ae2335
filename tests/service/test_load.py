"""The load generator against a small real server: what it sends and when, what it notices, and what it says."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bench.load import Closed, Load, LoadProcess, Open, Request, percentiles
from tests.service.small_server import response, small_server


@pytest.fixture(scope="module")
def load() -> Iterator[LoadProcess]:
    with LoadProcess() as process:
        yield process


def is_even(body: bytes) -> bool:
    return int(body) % 2 == 0


def test_a_stall_counts_for_every_request_that_was_due_meanwhile(load: LoadProcess) -> None:
    """A closed loop would have one slow answer of many: coordinated omission."""
    stall, rate, answered = 1.0, 100, 0

    async def answer(path: str) -> bytes:
        nonlocal answered
        answered += 1
        if answered == 20:
            time.sleep(stall)  # the whole server stands still, whatever is sent
        return response(b"1")

    with small_server(answer) as url:
        # So few connections that at most three requests wait in the server.
        result = load.run(Load(url, [Request("/")], Open(rate, 3.0, seed=None), connections=3))
    assert result.all_good
    assert len(result.status) == 300
    assert np.sum(result.latency > stall / 2) >= 0.4 * stall * rate
    assert percentiles(result.latency)["p99"] > 0.9 * stall
    assert result.held > 0


def test_a_known_delay_is_in_every_latency(load: LoadProcess) -> None:
    async def answer(path: str) -> bytes:
        await asyncio.sleep(0.05)
        return response(b"1")

    with small_server(answer) as url:
        for arrivals in (Open(50, 1.0), Closed(4, 0.5)):
            result = load.run(Load(url, [Request("/")], arrivals))
            assert result.all_good
            assert result.latency.min() >= 0.049


def test_a_closed_loop_keeps_its_number_in_flight(load: LoadProcess) -> None:
    now = most = 0

    async def answer(path: str) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return response(b"1")

    with small_server(answer) as url:
        result = load.run(Load(url, [Request("/")], Closed(7, 0.5)))
    assert most == 7
    assert result.all_good
    assert result.rate == pytest.approx(len(result.status) / result.seconds)


def test_an_open_loop_sends_what_is_due_whether_or_not_anything_is_answered(load: LoadProcess) -> None:
    waiting, all_there = 0, asyncio.Event()

    async def answer(path: str) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == 200:
            all_there.set()
        await all_there.wait()
        return response(b"1")

    with small_server(answer) as url:
        result = load.run(Load(url, [Request("/")], Open(200, 1.0)))
    assert result.all_good
    assert len(result.status) == 200


def test_wrong_values_are_caught(load: LoadProcess) -> None:
    seen = 0

    async def answer(path: str) -> bytes:
        nonlocal seen
        seen += 1
        return response(b'{"data":[[2]]}' if seen == 30 else b'{"data":[[1]]}')

    with small_server(answer) as url:
        result = load.run(Load(url, [Request("/", ending=b'"data":[[1]]}')], Open(200, 0.5)))
    assert result.wrong == 1
    assert not result.all_good
    assert result.sample == '{"data":[[2]]}'


def test_one_answer_in_fifty_is_looked_at_whole(load: LoadProcess) -> None:
    async def answer(path: str) -> bytes:
        return response(b"2" if path == "/even" else b"3")

    with small_server(answer) as url:
        right = load.run(Load(url, [Request("/even", check=is_even)], Open(200, 1.0)))
        wrong = load.run(Load(url, [Request("/odd", check=is_even)], Open(200, 1.0)))
    assert right.all_good
    assert wrong.wrong == 4


def test_several_requests_are_mixed_and_each_has_its_own_answer(load: LoadProcess) -> None:
    paths = Counter[str]()

    async def answer(path: str) -> bytes:
        paths[path] += 1
        return response(path.encode())

    kinds = [Request(f"/{number}", ending=f"/{number}".encode()) for number in range(4)]
    with small_server(answer) as url:
        result = load.run(Load(url, kinds, Closed(8, 0.3)))
    assert result.all_good
    assert {f"/{kind}": count for kind, count in Counter(result.kind.tolist()).items()} == dict(paths)
    assert len(paths) == 4


def test_refusals_are_counted_with_what_they_say_of_trying_again(load: LoadProcess) -> None:
    seen = 0

    async def answer(path: str) -> bytes:
        nonlocal seen
        seen += 1
        if seen % 4 == 0:
            return response(b"busy", "503 Service Unavailable", "Retry-After: 1")
        return response(b"busy", "503 Service Unavailable") if seen % 4 == 1 else response(b"1")

    with small_server(answer) as url:
        result = load.run(Load(url, [Request("/")], Open(400, 0.5)))
    assert result.statuses() == {"200": 100, "503": 100}
    assert result.retry_after == 50
    assert result.sample == "busy"
    assert set(result.document()["refused_latency_ms"]) == {"p50", "p90", "p99", "p99.9", "max"}


def test_a_connection_that_is_lost_is_a_request_without_an_answer(load: LoadProcess) -> None:
    seen = 0

    async def answer(path: str) -> bytes | None:
        nonlocal seen
        seen += 1
        return None if seen % 10 == 0 else response(b"1")

    with small_server(answer) as url:
        result = load.run(Load(url, [Request("/")], Open(200, 0.5)))
    assert result.statuses() == {"none": 10, "200": 90}


def test_a_server_that_closes_each_connection_is_measured_too(load: LoadProcess) -> None:
    async def answer(path: str) -> bytes:
        return response(b"1", "200 OK", "Connection: close")

    with small_server(answer) as url:
        assert load.run(Load(url, [Request("/")], Open(200, 0.5))).all_good


def test_a_body_in_chunks_is_put_together(load: LoadProcess) -> None:
    async def answer(path: str) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"

    with small_server(answer) as url:
        assert load.run(Load(url, [Request("/", b"body", ending=b"abcdefg")], Closed(2, 0.2))).all_good


def test_no_server_is_no_answer(load: LoadProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = load.run(Load(f"http://127.0.0.1:{port}", [Request("/")], Open(100, 0.2)))
    assert result.statuses() == {"none": 20}
    assert result.rate == 0


def test_patience_ends(load: LoadProcess) -> None:
    async def answer(path: str) -> bytes:
        await asyncio.sleep(0.0 if path == "/soon" else 3600)
        return response(b"1")

    kinds = [Request("/soon"), Request("/never")]
    with small_server(answer) as url:
        result = load.run(Load(url, kinds, Open(100, 0.3), connections=64, patience=0.3))
    assert set(result.statuses()) == {"none", "200"}
    assert len(result.status) == 30
    assert (result.latency[result.status == 0] >= 0.29).all()


def test_only_plain_http_is_spoken(load: LoadProcess) -> None:
    with pytest.raises(ValueError, match="not a http"):
        load.run(Load("https://127.0.0.1", [Request("/")], Closed(1, 0.1)))


@given(st.floats(1, 1e4), st.floats(0.1, 10), st.integers(0, 3) | st.none())
def test_arrivals_keep_the_rate_and_are_the_same_again(rate: float, seconds: float, seed: int | None) -> None:
    arrivals = Open(rate, seconds, seed)
    due = arrivals.due()
    assert len(due) == max(1, round(rate * seconds))
    assert (np.diff(due) >= 0).all()
    assert due[0] >= 0
    assert due[-1] <= seconds + 1 / rate
    assert np.array_equal(due, arrivals.due())


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=500))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float]) -> None:
    found = percentiles(np.array(values))
    for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}.items():
        enough = [v for v in values if sum(w <= v for w in values) >= share * len(values) - 1e-9]
        assert found[name] == min(enough)
    assert percentiles(np.empty(0)) == {}
