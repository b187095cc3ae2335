"""The catalogue: frozen, and every code of it reached by a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.contract import ErrorEnvelope
from service.costs import Cost
from service.errors import CATALOGUE, ApiError, ErrorCode, combined
from service.settings import Settings
from tessera.errors import InputErrorCode
from tests.media_files import shades, sine, sound_file, video_file
from tests.service.faults import Faulty
from tests.service.inputs import b64
from tests.service.running import RunningApp, running_app
from tests.service.security.secrets import ALL, KEYS, LINES, bearer, line

TEXT = {"inputs": [{"type": "text", "text": "a dog barks"}]}
LIMITS: dict[str, Any] = {
    "max_body_bytes": 2**20,
    "max_inputs": 2,
    "max_queue_seconds": 20,
    "max_media_seconds": 5,
    "max_media_bytes": 500_000,
    "max_codes_segments": 10,
}
Act = Callable[[RunningApp, Faulty], Awaitable[httpx.Response]]


def limited(bundle_dir: Path) -> Faulty:
    """A tokenizer within `LIMITS`."""
    return Faulty.load(bundle_dir, limits=Settings.load(**LIMITS).limits).arm()


def raw(kind: str, make: Callable[[], bytes]) -> Act:
    async def act(running: RunningApp, faulty: Faulty) -> httpx.Response:
        return await running.client.post("/tokenize", content=make(), headers={"content-type": kind})

    return act


def post(path: str, document: Any, **headers: str) -> Act:
    async def act(running: RunningApp, faulty: Faulty) -> httpx.Response:
        return await running.client.post(path, json=document, headers=headers)

    return act


def get(path: str, method: str = "GET") -> Act:
    async def act(running: RunningApp, faulty: Faulty) -> httpx.Response:
        return await running.client.request(method, path)

    return act


async def overload(running: RunningApp, faulty: Faulty) -> httpx.Response:
    with running.engine.default.admission.admit(Cost(LIMITS["max_queue_seconds"] * 1_000_000)):
        return await running.client.post("/tokenize", json=TEXT)


async def die(running: RunningApp, faulty: Faulty) -> httpx.Response:
    faulty.deadly = True
    return await running.client.post("/tokenize", json=TEXT)


async def break_down(running: RunningApp, faulty: Faulty) -> httpx.Response:
    faulty.poisonous_segments = 3
    return await running.client.post("/tokenize", json=TEXT)


async def shut_down(running: RunningApp, faulty: Faulty) -> httpx.Response:
    running.engine.stop_admission()
    return await running.client.post("/tokenize", json=TEXT)


async def drain(running: RunningApp, faulty: Faulty) -> httpx.Response:
    running.engine.draining = True
    return await running.client.get("/health/ready")


async def hang(running: RunningApp, faulty: Faulty) -> httpx.Response:
    faulty.gate.clear()
    try:
        return await running.client.post("/tokenize", json=TEXT, headers={"x-request-timeout-ms": "30"})
    finally:
        faulty.gate.set()


async def hurry(running: RunningApp, faulty: Faulty) -> httpx.Response:
    for _ in range(3):
        answer = await running.client.post("/tokenize", json=TEXT, headers=bearer(ALL))
    return answer


def media(seconds: float) -> Callable[[], bytes]:
    return lambda: sound_file("wav", sine(seconds), 16_000)


def picture() -> bytes:
    return video_file("mp4", shades(range(5)), 5)


WAYS: dict[ErrorCode, tuple[int, Act]] = {
    "body_too_large": (413, raw("audio/wav", lambda: bytes(2**20 + 1))),
    "code_out_of_range": (422, post("/detokenize", {"codes": [[99_999]]})),
    "deadline_exceeded": (504, hang),
    "device_lost": (503, die),
    "empty_input": (422, raw("text/plain", lambda: b" ")),
    "internal_error": (500, break_down),
    "invalid_value": (422, post("/tokenize", {"inputs": [{"type": "smell"}]})),
    "malformed_body": (400, post("/tokenize", [])),
    "media_corrupt": (422, raw("video/mp4", lambda: picture()[: len(picture()) // 2])),
    "media_too_large": (413, raw("audio/wav", lambda: bytes(600_000))),
    "media_too_long": (413, raw("audio/wav", media(6))),
    "method_not_allowed": (405, get("/tokenize")),
    "missing_track": (422, raw("audio/mp4", picture)),
    "model_not_found": (404, post("/tokenize", TEXT | {"model": "another"})),
    "not_found": (404, get("/no/such/path")),
    "not_ready": (503, drain),
    "overloaded": (503, overload),
    "shutting_down": (503, shut_down),
    "text_too_long": (413, raw("text/plain", lambda: b"dog " * 10_000)),
    "too_many_inputs": (413, post("/tokenize", {"inputs": TEXT["inputs"] * 3})),
    "too_many_segments": (413, post("/detokenize", {"codes": [[1]] * 11})),
    "unsupported_content_encoding": (415, post("/tokenize", TEXT, **{"content-encoding": "gzip"})),
    "unsupported_content_type": (415, raw("image/png", lambda: b"x")),
    "unsupported_media": (415, raw("audio/wav", lambda: np.random.default_rng(0).bytes(2000))),
    "url_inputs_disabled": (
        403,
        post("/tokenize", {"inputs": [{"type": "audio", "url": "http://localhost/"}]}),
    ),
    "unauthorized": (401, post("/tokenize", TEXT, **bearer("tsr_another"))),
    "forbidden": (403, post("/tokenize", TEXT, **bearer(KEYS["admin"]))),
    "rate_limited": (429, hurry),
    "url_not_allowed": (403, post("/tokenize", {"inputs": [{"type": "audio", "url": "https://localhost/"}]})),
    "url_not_fetched": (
        422,
        post("/tokenize", {"inputs": [{"type": "audio", "url": "https://localhost:1/"}]}),
    ),
}
GUARDED: dict[ErrorCode, dict[str, str]] = {
    "unauthorized": {"api_keys": LINES},
    "forbidden": {"api_keys": LINES},
    "rate_limited": {"api_keys": line("slow", ALL, requests_per_minute=1)},
    "url_not_allowed": {"url_hosts": "media.example.org"},
    "url_not_fetched": {"url_hosts": "private:localhost:1"},
}
"""What the server has to be told before it can say so."""


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_is_reached_in_the_one_envelope(bundle_dir: Path, code: ErrorCode) -> None:
    status, act = WAYS[code]

    async def scenario() -> httpx.Response:
        faulty = limited(bundle_dir)
        async with running_app(faulty, **LIMITS, **GUARDED.get(code, {})) as running:
            while not running.engine.ready:
                await asyncio.sleep(0.002)
            return await act(running, faulty)

    answer = asyncio.run(scenario())
    assert answer.status_code == status == CATALOGUE[code].status
    error = ErrorEnvelope.model_validate(answer.json()).error
    assert error.code == code
    assert error.type == CATALOGUE[code].type
    assert error.retryable == CATALOGUE[code].retryable
    assert error.request_id == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (CATALOGUE[code].retry_after is not None)
    if error.setting:
        assert error.setting.startswith("TESSERA_")
        assert error.limit is not None
        assert error.actual is not None


def test_the_catalogue_has_every_code_of_the_library() -> None:
    assert set(InputErrorCode.__args__) <= set(CATALOGUE)  # type: ignore[attr-defined]


def test_an_input_error_says_where_and_how_much(bundle_dir: Path) -> None:
    async def scenario() -> dict[str, Any]:
        async with running_app(limited(bundle_dir), **LIMITS) as running:
            inputs = [TEXT["inputs"][0], {"type": "audio", "data": b64(media(6)())}]
            answer = await running.client.post("/tokenize", json={"inputs": inputs})
            error: dict[str, Any] = answer.json()["error"]
            return error

    error = asyncio.run(scenario())
    assert error["message"].startswith("inputs[1]: ")
    assert (error["param"], error["limit"]) == ("inputs[1].data", 5)
    assert error["actual"] == pytest.approx(6)
    assert error["setting"] == "TESSERA_MAX_MEDIA_SECONDS"


def test_when_to_try_again_is_said_whatever_part_of_the_request_it_is_of() -> None:
    error = ApiError("overloaded", "full", retry_after=7)
    assert combined([error.at("inputs[0]"), error.at("inputs[1]")]).retry_after == 7
