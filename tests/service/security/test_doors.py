"""Every route is refused without a key and with too small a one; and there is no other way in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.routing import Mount

from service.app import Application, create_app
from service.contract import ErrorEnvelope
from service.security.keys import KEY_SCOPES
from service.security.scopes import OPEN, SCOPES, scopes_of
from service.settings import Settings
from tessera.tokenizer import Tokenizer
from tests.service.running import RunningApp, running_app
from tests.service.security.secrets import ALL, KEYS, LINES, bearer

Ask = Callable[[RunningApp], Coroutine[Any, Any, Any]]


def in_a_guarded_app(bundle_dir: Path, ask: Ask) -> Any:
    """What `ask` makes of an application with keys."""

    async def scenario() -> Any:
        async with running_app(Tokenizer.load(bundle_dir), api_keys=LINES) as running:
            while not running.engine.ready:
                await asyncio.sleep(0.002)
            return await ask(running)

    return asyncio.run(scenario())


def routes_of(api: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that the application answers, whether or not its document has them."""

    def routes(found: list[Any]) -> Iterator[tuple[str, str]]:
        for route in found:
            if hasattr(route, "effective_candidates"):
                yield from routes(route.effective_candidates())
            elif isinstance(route, Mount):
                yield "GET", route.path + "/{path:path}"
            else:
                yield from ((method, route.path) for method in route.methods if method != "HEAD")

    return set(routes(api.router.routes))


def an_example_of(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "example", path)


def shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.fixture(scope="module")
def routes() -> set[tuple[str, str]]:
    api = create_app(Settings.load()).api
    found = routes_of(api)
    documented = {(method.upper(), path) for path, each in api.openapi()["paths"].items() for method in each}
    assert documented <= found
    assert ("POST", "/tokenize") in found
    assert ("GET", "/metrics") in found
    return found


def test_every_route_is_in_the_table(routes: set[tuple[str, str]]) -> None:
    table = {(method, shape(path)) for path, methods in SCOPES.items() for method in methods}
    missing = {(method, path) for method, path in routes if (method, shape(path)) not in table}
    assert not missing, "a route that service/security/scopes.py does not know is refused to everybody"


def test_only_probes_are_open() -> None:
    assert OPEN == (("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/health/startup"))


def test_every_route_wants_a_key_with_its_scope(bundle_dir: Path, routes: set[tuple[str, str]]) -> None:
    async def ask(running: RunningApp) -> None:
        for method, path in sorted(routes):
            example = an_example_of(path)
            nobody = await running.client.request(method, example)
            if (method, path) in OPEN:
                assert nobody.status_code == 200
                continue
            assert nobody.status_code == 401, path
            assert nobody.headers["www-authenticate"] == "Bearer"
            assert ErrorEnvelope.model_validate(nobody.json()).error.code == "unauthorized"
            (needed,) = scopes_of(method, example)
            for scope in KEY_SCOPES:
                answer = await running.client.request(method, example, headers=bearer(KEYS[scope]))
                if scope == needed:
                    assert answer.status_code not in (401, 403, 405), path
                else:
                    assert answer.status_code == 403, path
                    assert ErrorEnvelope.model_validate(answer.json()).error.code == "forbidden"

    in_a_guarded_app(bundle_dir, ask)


def test_either_header_brings_the_key_and_nothing_else_does(bundle_dir: Path) -> None:
    key = KEYS["infer"]
    good: list[dict[str, str]] = [
        bearer(key),
        {"authorization": f"bearer  {key}"},
        {"x-api-key": key},
        {"x-api-key": key, "authorization": "Basic b3BlbjpzZXNhbWU="},
    ]
    bad: list[dict[str, str]] = [
        {},
        bearer(key + "x"),
        bearer(key[:-1]),
        bearer(""),
        bearer("x" * 60_000),
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": "Bearer"},
        {"x-api-key": ""},
        {"x-api-key": "wrong", "authorization": f"Bearer {key}"},
        {"cookie": f"key={key}"},
        {"x-api-key": key.upper()},
    ]

    async def ask(running: RunningApp) -> None:
        for headers in good:
            assert (await running.client.get("/version", headers=headers)).status_code == 200
        for headers in bad:
            assert (await running.client.get("/version", headers=headers)).status_code == 401
        for query in (f"key={key}", f"api_key={key}", f"access_token={key}"):
            assert (await running.client.get(f"/version?{query}")).status_code == 401

    in_a_guarded_app(bundle_dir, ask)


TRICKS = [
    "//tokenize",
    "/tokenize/",
    "/./tokenize",
    "/health/../tokenize",
    "/health/live/../../metrics",
    "/health/live/",
    "/health//live",
    "//health/live",
    "/HEALTH/LIVE",
    "/health/live\n",
    "/health/live\x00",
    "/health/live;/metrics",
    "/health/live?/metrics",
    "/health/live#",
    "/metrics\n",
    "/metrics/",
    "/Metrics",
    "",
    "*",
    "tokenize",
    "http://server/metrics",
]
PATHS = st.one_of(
    st.sampled_from(TRICKS),
    st.text(max_size=30).map(lambda text: "/" + text),
    st.lists(
        st.sampled_from(["health", "live", "metrics", "docs", "tokenize", "v1", "..", ".", "", "%2e"])
    ).map("/".join),
)
METHODS = st.sampled_from(
    ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "BREW"]
)


async def raw(app: Application, method: str, path: str, headers: dict[str, str]) -> int:
    """The status of a request as a server hands it over, with a path that no client would send."""
    statuses = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body of a stranger is not read")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    (status,) = statuses
    return int(status)


@pytest.fixture(scope="module")
def app() -> Application:
    """One that is not started: whoever comes further than the guard fails."""
    return create_app(Settings.load(api_keys=LINES))


@settings(deadline=None)
@given(st.lists(st.tuples(METHODS, PATHS), max_size=20))
@example([("GET", path) for path in TRICKS])
def test_no_path_and_no_method_is_a_way_around(app: Application, asked: list[tuple[str, str]]) -> None:
    async def ask() -> None:
        for method, path in asked:
            if (method, path) not in OPEN:
                assert await raw(app, method, path, {}) == 401
                assert await raw(app, method, path, bearer("tsr_wrong")) == 401
                status = await raw(app, method, path, bearer(KEYS["write"]))
                assert status in (403, 404, 405), "nothing here is for a key that may only write"

    asyncio.run(ask())


def test_a_route_that_the_table_does_not_know_is_refused_to_everybody(bundle_dir: Path) -> None:
    async def ask(running: RunningApp) -> None:
        async def forgotten(request: Request) -> Response:
            return Response("secrets")

        running.app.api.add_api_route("/forgotten", forgotten)  # type: ignore[attr-defined]
        running.app.api.add_api_route("/models", forgotten, methods=["DELETE"])  # type: ignore[attr-defined]
        assert (await running.client.get("/forgotten")).status_code == 401
        assert (await running.client.get("/forgotten", headers=bearer(ALL))).status_code == 404
        refused = await running.client.delete("/models", headers=bearer(ALL))
        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET"

    in_a_guarded_app(bundle_dir, ask)


def test_nothing_but_http_comes_in(app: Application) -> None:
    async def never(*_: object) -> Any:
        raise AssertionError

    asyncio.run(app({"type": "websocket", "path": "/health/live", "headers": []}, never, never))


def test_other_origins_are_told_nothing(bundle_dir: Path, routes: set[tuple[str, str]]) -> None:
    origin = {"origin": "https://elsewhere.example"}
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    async def ask(running: RunningApp) -> list[httpx.Response]:
        answers = []
        for method, path in sorted(routes):
            example = an_example_of(path)
            for key in ({}, bearer(ALL)):
                answers.append(await running.client.request(method, example, headers=origin | key))
                answers.append(await running.client.options(example, headers=origin | preflight | key))
        return answers

    for answer in in_a_guarded_app(bundle_dir, ask):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_without_keys_all_may_ask(bundle_dir: Path) -> None:
    async def scenario() -> None:
        async with running_app(Tokenizer.load(bundle_dir)) as running:
            assert (await running.client.get("/version")).status_code == 200
            assert (await running.client.get("/metrics")).status_code == 200

    asyncio.run(scenario())


def test_who_came_in_is_counted_by_name(bundle_dir: Path) -> None:
    async def ask(running: RunningApp) -> str:
        await running.client.get("/version", headers=bearer(KEYS["infer"]))
        await running.client.get("/version", headers=bearer(KEYS["write"]))
        return (await running.client.get("/metrics", headers=bearer(ALL))).text

    text = in_a_guarded_app(bundle_dir, ask)
    assert 'tessera_key_requests_total{key="infer",outcome="admitted"} 1.0' in text
    assert 'tessera_key_requests_total{key="write",outcome="forbidden"} 1.0' in text
