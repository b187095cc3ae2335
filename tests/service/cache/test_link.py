"""The way to Redis: what it costs when Redis is slow, frozen, gone or out of order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.cache import cache_of
from service.cache.counts import CacheCounts
from service.cache.link import Link, link_to_redis
from service.errors import StartError
from service.settings import Settings
from tests.service.cache.redis_server import RedisServer, running_redis

NEVER = 3600


@asynccontextmanager
async def link_of(redis: RedisServer, **settings: Any) -> AsyncIterator[tuple[Link, CollectorRegistry]]:
    registry = CollectorRegistry()
    link = link_to_redis(
        Settings.load(**{"redis_url": redis.url, "redis_timeout_ms": 10_000, **settings}),
        CacheCounts(registry),
    )
    yield link, registry
    await link.close()


def errors(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["kind"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "tessera_cache_errors_total"
    }


def test_answers_come_to_those_who_asked(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with link_of(redis) as (link, registry):
            link.tell("SET", "told", b"value")
            asked = [link.ask("ECHO", str(number)) for number in range(1000)]
            assert [int(answer) for answer in await asyncio.gather(*asked)] == list(range(1000))
            assert await link.ask("GET", "told") == b"value"
            assert errors(registry) == {}

    asyncio.run(scenario())


def test_what_is_told_last_is_sent_before_the_end(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with link_of(redis) as (link, _):
            link.tell("SET", "last", b"word")

    asyncio.run(scenario())
    with redis.client() as client:
        assert client.get("last") == b"word"


def test_an_error_of_redis_is_no_answer_and_harms_no_neighbour(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with link_of(redis) as (link, registry):
            link.tell("RPUSH", "list", b"1")
            wrong, right = link.ask("GET", "list"), link.ask("ECHO", "right")
            assert (await wrong, await right) == (None, b"right")
            assert errors(registry) == {"refused": 1}
            assert link.breaker.closed

    asyncio.run(scenario())


def test_a_frozen_redis_costs_so_many_timeouts_and_then_nothing() -> None:
    async def scenario(redis: RedisServer) -> None:
        ways = {"redis_timeout_ms": 100, "redis_failures": 2, "redis_retry_seconds": NEVER}
        async with link_of(redis, **ways) as (link, registry):
            assert await link.ask("ECHO", "1") == b"1"
            redis.send(signal.SIGSTOP)
            for _ in range(2):
                assert await asyncio.gather(*(link.ask("ECHO", "1") for _ in range(10))) == [None] * 10
            assert errors(registry) == {"timeout": 2}
            assert link.breaker.state == "open"
            for _ in range(1000):
                assert link.ask("ECHO", "1").done()
            assert errors(registry) == {"timeout": 2}

    with running_redis() as redis:
        asyncio.run(scenario(redis))


def test_it_heals_without_a_request(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(redis: RedisServer) -> None:
        ways = {"redis_failures": 1, "redis_retry_seconds": 0.05}
        async with link_of(redis, **ways) as (link, registry):
            redis.kill()
            assert await link.ask("ECHO", "1") is None
            assert not link.breaker.closed
            while errors(registry)["connection"] < 4:
                await asyncio.sleep(0.01)
            redis.start()
            while not link.breaker.closed:
                await asyncio.sleep(0.01)
            assert await link.ask("ECHO", "1") == b"1"

    with running_redis() as redis:
        asyncio.run(scenario(redis))
    assert [record.message for record in caplog.records if record.name == "service.cache.link"] == [
        "Redis is left out until it answers again: ConnectionError"
    ]


def test_what_waits_is_bounded(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with link_of(redis) as (link, registry):
            asked = [link.ask("ECHO", "1") for _ in range(5000)]
            answers = await asyncio.gather(*asked)
            assert answers.count(None) == errors(registry)["dropped"] == 5000 - 4096

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url", ["http://localhost", "redis://host:port:secret", "localhost:6379", "redis://:secret@host:99999"]
)
def test_a_url_that_is_none_is_named_and_not_repeated(url: str) -> None:
    with pytest.raises(StartError, match=r"^TESSERA_REDIS_URL must be a URL") as failure:
        Settings.load(redis_url=url)
    assert "secret" not in str(failure.value)


def test_a_url_with_wrong_options_is_not_repeated_either() -> None:
    settings = Settings.load(redis_url="redis://:secret@localhost/?socket_timeout=soon")
    with pytest.raises(StartError, match=r"^TESSERA_REDIS_URL cannot be taken") as failure:
        cache_of(settings, 1000, CollectorRegistry())
    assert "secret" not in str(failure.value)
    assert "secret" not in repr(settings)


def test_a_password_is_used_and_a_wrong_one_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(redis: RedisServer) -> None:
        with redis.client() as client:
            client.config_set("requirepass", "secret")
        for password, answer in (("secret", b"1"), ("wrong-one", None)):
            url = redis.url.replace("//", f"//:{password}@")
            async with link_of(redis, redis_url=url, redis_failures=1) as (link, _):
                assert await link.ask("ECHO", "1") == answer

    with running_redis() as redis:
        asyncio.run(scenario(redis))
    assert "Redis is left out" in caplog.text
    assert "wrong-one" not in caplog.text
