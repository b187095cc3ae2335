"""Two servers that share one Redis: equal inputs are computed once, and nobody waits for one that died."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
from redis import Redis

from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.cache.redis_server import RedisServer
from tests.service.cache.test_single_flight import codes_of, counted, sent, texts, until
from tests.service.faults import Faulty
from tests.service.inputs import b64
from tests.service.running import RunningServer, running_app, running_server
from tests.service.test_promises import metric

PATIENT: dict[str, Any] = {"redis_timeout_ms": 30_000, "redis_connect_timeout_ms": 30_000}


@pytest.fixture(scope="module")
def replicas(bundle_dir: Path, redis: RedisServer) -> Iterator[list[httpx.Client]]:
    settings = PATIENT | {"redis_url": redis.url, "canary_seconds": 3600}
    with (
        running_server(bundle_dir, **settings) as one,
        running_server(bundle_dir, "--frontends", "2", **settings) as two,
        one.client() as first,
        two.client() as second,
    ):
        for client in (first, second):
            while client.get("/health/ready").status_code != 200:
                time.sleep(0.01)
        yield [first, second]


def total(replicas: list[httpx.Client], name: str) -> float:
    """A metric of all replicas."""
    return sum(metric(client, f"tessera_{name}") for client in replicas)


def sound(seconds: float) -> dict[str, Any]:
    wav = sound_file("wav", chirp(seconds), 16_000)
    return {"content": wav, "headers": {"content-type": "audio/wav"}}


def test_what_one_computed_the_other_knows(replicas: list[httpx.Client], tokenizer: Tokenizer) -> None:
    requests = [sound(3.25), {"json": texts("a dog barks", "it rains", "a bell")}]
    names = ("cache_misses_total", 'cache_hits_total{level="redis"}', "batch_items_sum")
    for number, request in enumerate(requests):
        first, second = replicas if number else replicas[::-1]
        answer = first.post("/tokenize", **request)
        before = [total(replicas, name) for name in names]
        assert codes_of(second.post("/tokenize", **request)) == codes_of(answer)
        after = [total(replicas, name) for name in names]
        found = len(codes_of(answer))
        assert [now - then for now, then in zip(after, before, strict=True)] == [0, found, 0]
    assert codes_of(answer) == [
        tokenizer.encode_text(t).codes.tolist() for t in ("a dog barks", "it rains", "a bell")
    ]


def test_what_both_are_asked_at_the_same_moment_is_computed_once(
    replicas: list[httpx.Client], tokenizer: Tokenizer
) -> None:
    """Inputs of different requests, in another order at the other server, and each twice at each server."""
    names = ("cache_misses_total", "batch_items_sum")
    before = [total(replicas, name) for name in names]
    rounds = 8
    with ThreadPoolExecutor(4) as pool:
        for number in range(rounds):
            files = [sound_file("wav", chirp(5 + number / 8 + extra), 16_000) for extra in (0, 20)]
            entries: list[dict[str, Any]] = [{"type": "audio", "data": b64(file)} for file in files]
            entries.append({"type": "text", "text": f"a dog barks {number} times"})
            barrier = Barrier(4)

            def ask(place: int, barrier: Barrier = barrier, entries: list[Any] = entries) -> list[Any]:
                turned = entries if place % 2 else entries[::-1]
                barrier.wait()
                answer = replicas[place // 2].post("/tokenize", json={"inputs": turned})
                codes = codes_of(answer)
                return codes if place % 2 else codes[::-1]

            answers = list(pool.map(ask, range(4)))
            expected = [tokenizer.encode(file, "audio").codes.tolist() for file in files]
            expected.append(tokenizer.encode_text(entries[2]["text"]).codes.tolist())
            assert answers == [expected] * 4
    after = [total(replicas, name) for name in names]
    windows = rounds * (1 + 3 + 1)
    assert [now - then for now, then in zip(after, before, strict=True)] == [3 * rounds, windows]
    for client in replicas:
        for kind in ("timeout", "connection", "refused", "dropped", "unreadable"):
            assert metric(client, f'tessera_cache_errors_total{{kind="{kind}"}}') == 0


def test_states_of_several_processes_add_up(replicas: list[httpx.Client]) -> None:
    assert [metric(each, 'tessera_cache_breakers{state="closed"}') for each in replicas] == [1, 2]
    limits = {entry["name"]: entry for entry in replicas[0].get("/limits").json()["data"]}
    assert limits["cache_bytes"]["setting"] == "TESSERA_CACHE_BYTES"


def test_entries_that_cannot_be_believed_are_computed_again(
    replicas: list[httpx.Client], redis: RedisServer
) -> None:
    first, second = replicas
    codes = codes_of(first.post("/tokenize", json=texts("somebody lies")))
    unreadable = 'tessera_cache_errors_total{kind="unreadable"}'
    with redis.client() as client:
        written = entries(client)
        for key, data in written.items():
            client.set(key, data[:-2] + b"\xff\xff", keepttl=True)
        assert codes_of(second.post("/tokenize", json=texts("somebody lies"))) == codes
        assert metric(second, unreadable) == 1
        damaged = [key for key, data in written.items() if client.get(key) == data]
        assert len(damaged) == 1
        for key in written:
            assert 0 < client.ttl(key) <= 7 * 24 * 3600


def entries(client: Redis) -> dict[bytes, bytes]:
    keys = [key for key in client.scan_iter("tessera:codes:*") if b":flight:" not in key]
    return {key: client.get(key) for key in keys}  # type: ignore[misc]


def test_nobody_waits_for_a_replica_that_was_killed(
    bundle_dir: Path, tokenizer: Tokenizer, redis: RedisServer
) -> None:
    body = {"inputs": [{"type": "audio", "data": b64(sound_file("wav", chirp(250.0), 16_000))}]}

    async def scenario(doomed: RunningServer) -> None:
        settings = PATIENT | {"redis_url": redis.url, "cache_bytes": 2**20, "max_queue_seconds": 600}
        async with running_app(tokenizer, **settings) as running, httpx.AsyncClient() as client:
            lost = asyncio.create_task(client.post(f"{doomed.url}/tokenize", json=body, timeout=900))
            await until(redis.leases)
            waiting = sent(running, body)
            await until(lambda: counted(running, "followers_total") == 1)
            assert not lost.done()
            doomed.process.kill()
            assert len(codes_of(await waiting)[0]) == 250
            assert counted(running, "misses_total") == 1
            with pytest.raises(httpx.TransportError):
                await lost
        assert not redis.leases()

    with running_server(bundle_dir, **PATIENT, redis_url=redis.url) as doomed:
        asyncio.run(scenario(doomed))


def test_who_leaves_leaves_no_lease(bundle_dir: Path, redis: RedisServer) -> None:
    faulty = Faulty.load(bundle_dir).arm()

    async def scenario() -> None:
        settings = PATIENT | {"redis_url": redis.url, "cache_bytes": 2**20}
        async with running_app(faulty, **settings) as one, running_app(faulty, **settings) as other:
            await until(lambda: one.engine.ready and other.engine.ready)
            faulty.gate.clear()
            leaving = sent(one, texts("left alone"))
            await until(redis.leases)
            waiting = sent(other, texts("left alone"))
            await until(lambda: counted(other, "followers_total") == 1)
            leaving.cancel()
            await until(lambda: counted(other, "misses_total") == 1)
            faulty.gate.set()
            assert codes_of(await waiting) == [faulty.encode_text("left alone").codes.tolist()]
        assert not redis.leases()

    asyncio.run(scenario())


def test_a_replica_that_lives_and_does_nothing_is_waited_for_half_of_the_time(
    tokenizer: Tokenizer, redis: RedisServer
) -> None:
    async def scenario() -> None:
        settings = PATIENT | {"redis_url": redis.url, "cache_bytes": 2**20}
        async with running_app(tokenizer, **settings) as running:
            await until(lambda: running.engine.ready)
            with redis.client() as client:
                before = set(entries(client))
                assert codes_of(await sent(running, texts("hung")))
                await until(lambda: set(entries(client)) - before)
                (key,) = set(entries(client)) - before
                client.delete(key)
                client.set(key + b":flight:interactive", "1", px=3_600_000)
        async with running_app(tokenizer, **settings) as running:
            await until(lambda: running.engine.ready)
            answer = await sent(running, texts("hung"), **{"x-request-timeout-ms": "3000"})
            assert answer.status_code == 200
            assert counted(running, "followers_total") == counted(running, "misses_total") == 1

    asyncio.run(scenario())
