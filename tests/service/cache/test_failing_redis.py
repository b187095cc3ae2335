"""A Redis that is slowed, frozen, stopped and restarted under load: answers stay right, and the metrics say it."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tessera.tokenizer import Tokenizer
from tests.service.cache.redis_server import SlowWay, running_redis
from tests.service.cache.test_single_flight import codes_of, texts
from tests.service.running import running_server
from tests.service.test_promises import metric

SETTINGS = {"redis_timeout_ms": 500, "redis_connect_timeout_ms": 500, "redis_retry_seconds": 0.1}


def breakers(client: httpx.Client, state: str) -> float:
    return metric(client, f'tessera_cache_breakers{{state="{state}"}}')


def errors(client: httpx.Client, kind: str) -> float:
    return metric(client, f'tessera_cache_errors_total{{kind="{kind}"}}')


def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; the test's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.01)


def test_answers_stay_right_whatever_becomes_of_redis(bundle_dir: Path, tokenizer: Tokenizer) -> None:
    numbers, stop = itertools.count(), threading.Event()
    answered: dict[str, Any] = {}

    def load(url: str) -> None:
        """New texts all the time, and each once more."""
        with httpx.Client(base_url=url, timeout=900) as client:
            while not stop.is_set():
                text = f"dog {next(numbers)} barks"
                for _ in range(2):
                    (codes,) = codes_of(client.post("/tokenize", json=texts(text)))
                    assert answered.setdefault(text, codes) == codes
                time.sleep(0.005)

    with running_redis() as redis:
        way = SlowWay(redis.port)
        with (
            way.open() as url,
            running_server(bundle_dir, redis_url=url, **SETTINGS) as server,
            server.client() as client,
            ThreadPoolExecutor(4) as pool,
        ):
            loads = [pool.submit(load, server.url) for _ in range(4)]
            try:
                shaken(client, redis, way)
            finally:
                stop.set()
            for each in loads:
                each.result()
            for text, codes in answered.items():
                assert codes == tokenizer.encode_text(text).codes.tolist()


def shaken(client: httpx.Client, redis: Any, way: SlowWay) -> None:
    """Everything that may happen to a Redis; the load goes on meanwhile."""

    def healed() -> None:
        until(lambda: breakers(client, "closed") == 1)
        with redis.client() as direct:
            known = direct.dbsize()
            until(lambda: direct.dbsize() > known)

    until(lambda: metric(client, "tessera_cache_misses_total") > 20)
    assert breakers(client, "closed") == 1
    way.delay = 0.02  # slow, but it answers
    computed = metric(client, "tessera_cache_misses_total")
    until(lambda: metric(client, "tessera_cache_misses_total") > computed + 20)
    for slowed, mended in (
        (lambda: setattr(way, "delay", 5), lambda: setattr(way, "delay", 0)),
        (lambda: redis.send(signal.SIGSTOP), lambda: redis.send(signal.SIGCONT)),
    ):
        late = errors(client, "timeout")
        slowed()
        until(lambda late=late: errors(client, "timeout") >= late + 3 and breakers(client, "closed") == 0)
        computed = metric(client, "tessera_cache_misses_total")
        until(lambda computed=computed: metric(client, "tessera_cache_misses_total") > computed + 20)
        mended()
        healed()
    lost = errors(client, "connection")
    redis.kill()
    until(lambda: errors(client, "connection") >= lost + 3 and breakers(client, "closed") == 0)
    redis.start()
    healed()
