"""Equal inputs at the same moment, in one process: one is computed, and whatever happens to it, all are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.faults import Faulty
from tests.service.inputs import b64, features_input
from tests.service.running import RunningApp, running_app

CACHED: dict[str, Any] = {"cache_bytes": 2**20, "max_queue_seconds": 60, "canary_seconds": 3600}


@pytest.fixture
def faulty(bundle_dir: Path) -> Faulty:
    return Faulty.load(bundle_dir).arm()


def texts(*sentences: str, **options: Any) -> dict[str, Any]:
    return {"inputs": [{"type": "text", "text": each} for each in sentences]} | options


async def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; the test's own time limit ends a wait in vain."""
    while not condition():
        await asyncio.sleep(0.002)


def counted(running: RunningApp, name: str) -> float:
    """A metric of the cache, summed over its labels."""
    return sum(
        sample.value
        for family in running.app.state.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"tessera_cache_{name}"
    )


def sent(running: RunningApp, body: dict[str, Any], **headers: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(running.client.post("/tokenize", json=body, headers=headers))


def codes_of(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [entry["codes"] for entry in answer.json()["data"]]


def test_equal_inputs_are_computed_once_and_then_known(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED) as running:
            await until(lambda: running.engine.ready)
            faulty.gate.clear()
            body = texts("a dog", "two cats", "a dog")
            requests = [sent(running, body) for _ in range(20)]
            await until(lambda: counted(running, "followers_total") == 58)
            assert running.engine.default.admission.micros.used == 4_000_000
            faulty.gate.set()
            expected = [faulty.encode_text(each["text"]).codes.tolist() for each in body["inputs"]]
            for request in requests:
                assert codes_of(await request) == expected
            assert counted(running, "misses_total") == 2
            faulty.gate.clear()
            assert codes_of(await sent(running, body)) == expected
            assert counted(running, "hits_total") == 3
            assert counted(running, "entries") == 2
            faulty.gate.set()

    asyncio.run(scenario())


def test_when_the_first_gives_up_another_computes(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED) as running:
            await until(lambda: running.engine.ready)
            faulty.gate.clear()
            first = sent(running, texts("a dog"), **{"x-request-timeout-ms": "300"})
            await until(lambda: counted(running, "misses_total") == 1)
            others = [sent(running, texts("a dog")) for _ in range(5)]
            await until(lambda: counted(running, "followers_total") == 5)
            assert (await first).status_code == 504
            await until(lambda: counted(running, "misses_total") == 2)
            assert not any(other.done() for other in others)
            faulty.gate.set()
            for other in others:
                assert codes_of(await other) == [faulty.encode_text("a dog").codes.tolist()]
            assert counted(running, "misses_total") == 2

    asyncio.run(scenario())


def test_two_that_wait_for_each_other_both_end(faulty: Faulty) -> None:
    """Each leads what the other follows; what each is handed over, it computes at once."""

    async def scenario() -> None:
        async with running_app(faulty, **CACHED | {"max_queue_seconds": 1000}) as running:
            await until(lambda: running.engine.ready)
            faulty.gate.clear()
            doomed = [sent(running, texts(f"dog {n}")) for n in range(6)]
            await until(lambda: counted(running, "misses_total") == 6)
            orders = [[(first + step) % 6 for step in range(6)] for first in range(6)]
            others = [sent(running, texts(*(f"dog {n}" for n in order))) for order in orders]
            await until(lambda: counted(running, "followers_total") == 36)
            for each in doomed:
                each.cancel()
            await until(lambda: counted(running, "misses_total") == 12)
            faulty.gate.set()
            for order, other in zip(orders, others, strict=True):
                expected = [faulty.encode_text(f"dog {n}").codes.tolist() for n in order]
                assert codes_of(await other) == expected
            assert counted(running, "misses_total") == 12

    asyncio.run(scenario())


def test_a_fault_of_the_input_is_one_for_all_and_is_not_kept(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED, max_open_media=1) as running:
            await until(lambda: running.engine.ready)
            faulty.gate.clear()
            blocking = sent(running, texts("a dog"))
            bad = {"inputs": [{"type": "text", "text": "x"}, {"type": "audio", "data": b64(b"no media")}]}
            one, other = sent(running, bad), sent(running, bad | {"on_error": "partial"})
            await until(lambda: counted(running, "followers_total") == 2)
            faulty.gate.set()
            refused, partial = (await one), (await other)
            assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media")
            assert refused.json()["error"]["param"] == "inputs[1].data"
            assert partial.json()["data"][1]["error"]["message"] == refused.json()["error"]["message"]
            await blocking
            assert counted(running, "misses_total") == 3
            assert (await sent(running, bad)).status_code == 415
            assert counted(running, "misses_total") == 4
            assert counted(running, "entries") == 2

    asyncio.run(scenario())


def test_a_fault_of_the_server_is_each_ones_own(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED) as running:
            await until(lambda: running.engine.ready)
            faulty.poisonous_segments = 4
            faulty.gate.clear()
            requests = [sent(running, texts("one two three four")) for _ in range(5)]
            await until(lambda: counted(running, "followers_total") == 4)
            faulty.gate.set()
            assert {(await request).status_code for request in requests} == {500}
            assert counted(running, "misses_total") == 5
            faulty.poisonous_segments = None
            assert (await sent(running, texts("one two three four"))).status_code == 200

    asyncio.run(scenario())


def test_a_refusal_is_each_ones_own(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED | {"max_queue_seconds": 4}) as running:
            await until(lambda: running.engine.ready)
            assert codes_of(await sent(running, texts("known")))
            faulty.gate.clear()
            filling = sent(running, texts("one two three four"))
            await until(lambda: running.engine.default.admission.micros.used == 4_000_000)
            answers = await asyncio.gather(*(sent(running, texts("a dog")) for _ in range(50)))
            assert {answer.json()["error"]["code"] for answer in answers} == {"overloaded"}
            # What is known needs no room.
            assert codes_of(await sent(running, texts("known")))
            faulty.gate.set()
            assert codes_of(await filling)
            assert codes_of(await sent(running, texts("a dog")))

    asyncio.run(scenario())


def test_somebody_who_waits_does_not_wait_for_bulk(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED) as running:
            await until(lambda: running.engine.ready)
            faulty.gate.clear()
            bulk = sent(running, texts("a dog"), **{"x-priority": "bulk"})
            await until(lambda: counted(running, "misses_total") == 1)
            urgent = sent(running, texts("a dog"))
            await until(lambda: counted(running, "misses_total") == 2)
            faulty.gate.set()
            assert codes_of(await urgent) == codes_of(await bulk)
            assert counted(running, "followers_total") == 0

    asyncio.run(scenario())


def test_a_request_is_not_larger_because_its_codes_are_known(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED, max_request_segments=10) as running:
            await until(lambda: running.engine.ready)
            parts = ["one two three four five six", "six five four three two one"]
            for part in parts:
                assert (await sent(running, texts(part))).status_code == 200
            answer = await sent(running, texts(*parts))
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_segments")

    asyncio.run(scenario())


def test_features_are_not_kept(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **CACHED) as running:
            await until(lambda: running.engine.ready)
            for _ in range(2):
                assert codes_of(await sent(running, {"inputs": [features_input(faulty)]}))
            assert counted(running, "misses_total") == counted(running, "hits_total") == 0

    asyncio.run(scenario())
