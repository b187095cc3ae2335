"""No secret is in a line that a server logs, in what it answers, or where others of the machine can see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.security.keys import new_secret
from tests.service.running import RunningServer, running_server
from tests.service.security.secrets import ALL, KEYS, LINES, bearer

WRONG = new_secret()
IN_URL = "a-token-of-a-store"
SECRETS = (*KEYS.values(), ALL, WRONG, IN_URL)
TEXT = {"inputs": [{"type": "text", "text": "a dog barks"}]}


def sendings() -> Iterator[dict[str, object]]:
    """Requests with secrets where they belong, and where they do not."""
    for headers in (
        bearer(ALL),
        bearer(WRONG),
        {"x-api-key": ALL},
        {"x-api-key": WRONG + "\x7f"},
        {"authorization": WRONG},
        {"authorization": f"Basic {WRONG}"},
        {"x-request-id": WRONG + " and more"},
        bearer(KEYS["admin"]),
    ):
        yield {"url": "/tokenize", "headers": headers, "json": TEXT}
    for headers in (bearer(ALL), {}):
        yield {"url": f"/tokenize?api_key={WRONG}", "headers": headers, "json": TEXT}
        yield {"url": f"/{WRONG}", "headers": headers, "json": TEXT}
        yield {"url": "/tokenize", "headers": headers, "json": {WRONG: WRONG}}
        yield {"url": "/tokenize", "headers": headers | {"content-type": WRONG}, "content": WRONG}
    for host in ("https://localhost:1", "https://elsewhere.example", "http://localhost"):
        inputs = [{"type": "audio", "url": f"{host}/sound.wav?token={IN_URL}"}]
        yield {"url": "/tokenize", "headers": bearer(ALL), "json": {"inputs": inputs}}


def arguments(server: RunningServer) -> str:
    root = psutil.Process(server.process.pid)
    return " ".join(part for each in (root, *root.children(recursive=True)) for part in each.cmdline())


@pytest.mark.parametrize("frontends", [1, 2])
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_told(bundle_dir: Path, frontends: int, form: str) -> None:
    lines: list[str] = []
    answers: list[httpx.Response] = []
    with running_server(
        bundle_dir,
        "--frontends",
        str(frontends),
        api_keys=LINES.replace("\n", ";"),
        url_hosts="private:localhost:1",
        log_level="debug",
        log_format=form,
    ) as server:
        assert server.process.stderr is not None
        reading = threading.Thread(target=lines.extend, args=[server.process.stderr])
        reading.start()
        with server.client() as client:
            for sending in sendings():
                answers.append(client.request("POST", **sending))  # type: ignore[arg-type]
        seen = arguments(server)
        server.process.terminate()
        reading.join(60)
    statuses = [answer.status_code for answer in answers]
    assert {200, 401, 403, 422} <= set(statuses)
    assert 500 not in statuses
    said = "".join(lines)
    assert said.count("/tokenize") >= len(answers) - 8, "each request has a line"
    for secret in SECRETS:
        assert secret not in said
        assert secret not in seen
    for key in (ALL, *KEYS.values()):
        assert not any(key in str(answer.headers) + answer.text for answer in answers)
