"""Clients that do not speak, do not end, or do not read: they are ended, and others do not notice."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.contract import ErrorBody
from tests.media_files import chirp, sound_file
from tests.service.frontends.test_front_ends import free_port
from tests.service.running import RunningServer, running_server
from tests.service.siege.wire import Answer, Step, answers_in, head, post, talk
from tests.service.test_promises import metric, texts

BODY = head("POST", "/tokenize", "content-type: text/plain", "content-length: 10")
CHUNKS = head("POST", "/tokenize", "content-type: text/plain", "transfer-encoding: chunked")
GOOD = post("/tokenize", "text/plain", b"a dog barks")


@pytest.fixture(scope="module")
def strict(bundle_dir: Path) -> Iterator[RunningServer]:
    """A server with little patience."""
    limits = {"max_silence_seconds": 1, "max_transfer_seconds": 2, "max_head_bytes": 8192}
    with running_server(bundle_dir, **limits) as server:
        yield server


def ask(server: RunningServer, *steps: Step) -> list[Answer]:
    return asyncio.run(talk(server.url, steps))


def ask_all(server: RunningServer, clients: Sequence[Sequence[Step]]) -> list[list[Answer]]:
    async def all_of_them() -> list[list[Answer]]:
        return await asyncio.gather(*(talk(server.url, steps) for steps in clients))

    return asyncio.run(all_of_them())


def told(answer: Answer) -> ErrorBody:
    assert answer.headers["x-request-id"] == answer.document["error"]["request_id"]
    assert answer.headers["connection"] == "close"
    return ErrorBody.model_validate(answer.document["error"])


def connect(server: RunningServer, receiving: int | None = None) -> socket.socket:
    place = urlsplit(server.url)
    link = socket.socket()
    if receiving:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiving)
    link.connect((place.hostname, place.port))
    return link


def test_who_asks_nothing_is_hung_up_on(strict: RunningServer) -> None:
    drops = [part for _ in range(6) for part in (0.7, b"x: y\r\n")]
    silent = [[b""], [b"\r\n"], [b"POST /tok"], [BODY[:-2]], [GOOD[:40]], [BODY[:-2], *drops]]
    assert ask_all(strict, silent) == [[]] * len(silent)


def test_a_body_that_stops_is_answered(strict: RunningServer) -> None:
    begun = [[BODY], [BODY + b"a dog"], [CHUNKS], [CHUNKS + b"5\r\na dog\r\n"]]
    for (answer,) in ask_all(strict, begun):
        error = told(answer)
        assert (answer.status, error.code, error.limit) == (504, "deadline_exceeded", 1)
        assert error.setting == "TESSERA_MAX_SILENCE_SECONDS"


def test_a_body_that_trickles_is_answered(strict: RunningServer) -> None:
    drops = [part for letter in b"a dog" for part in (0.7, bytes([letter]))]
    (answer,) = ask(strict, BODY, *drops)
    assert told(answer).setting == "TESSERA_MAX_TRANSFER_SECONDS"


def test_a_client_that_still_sends_gets_its_answer(strict: RunningServer) -> None:
    start = head(
        "POST", "/tokenize", "content-type: audio/wav", "content-length: 500000000", "connection: close"
    )
    sending = [bytes(1_000_000)] * 20
    for (answer,) in ask_all(strict, [[start, *sending]] * 8):
        assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_body_that_takes_its_time_is_read(strict: RunningServer) -> None:
    words = (b"a dog ", 0.4, b"barks ", 0.4, b"at a ", 0.4, b"cat")
    size = sum(len(part) for part in words if isinstance(part, bytes))
    start = head(
        "POST", "/tokenize", "content-type: text/plain", f"content-length: {size}", "connection: close"
    )
    (answer,) = ask(strict, start, *words)
    assert answer.status == 200


def test_a_head_without_end_is_refused(strict: RunningServer) -> None:
    (answer,) = ask(strict, b"GET /version HTTP/1.1\r\n" + b"x: " + b"y" * 10_000)
    error = told(answer)
    assert (answer.status, error.code, error.limit) == (400, "malformed_body", 8192)
    assert error.setting == "TESSERA_MAX_HEAD_BYTES"


def test_trailers_without_end_are_refused(strict: RunningServer) -> None:
    trailers = [part for _ in range(40) for part in (b"x: " + b"y" * 500 + b"\r\n", 0.001)]
    (answer,) = ask(strict, CHUNKS + b"5\r\na dog\r\n0\r\n", *trailers)
    assert told(answer).code == "malformed_body"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        head("POST", "/tokenize", "content-length: -1"),
        head("POST", "/tokenize", "content-length: 1", "content-length: 2"),
        head("POST", "/tokenize", "content-length: 1", "transfer-encoding: chunked"),
        CHUNKS + b"what?\r\n",
    ],
)
def test_what_is_no_http_gets_the_one_envelope(strict: RunningServer, sent: bytes) -> None:
    (answer,) = ask(strict, sent)
    assert answer.status == 400
    assert told(answer).code == "malformed_body"


def test_chunks_that_go_wrong_later_are_answered(strict: RunningServer) -> None:
    (answer,) = ask(strict, CHUNKS + b"5\r\na dog\r\n", 0.2, b"what?\r\n" * 3)
    assert told(answer).code == "malformed_body"


def test_a_few_requests_at_once_are_answered_in_order_and_many_are_not(strict: RunningServer) -> None:
    ahead = post("/tokenize", "text/plain", b"a dog", close=False)
    answers = ask(strict, ahead * 3 + head("GET", "/version", "connection: close"))
    assert [answer.document["object"] for answer in answers] == ["list"] * 3 + ["version"]
    assert len(ask(strict, ahead * 2000)) < 20


def test_an_answer_that_is_not_taken_is_held_and_given_up(bundle_dir: Path) -> None:
    document = texts(*[5000] * 7) | {"return": ["embeddings", "latents"], "encoding_format": "float"}
    limits = {
        "max_silence_seconds": 2,
        "max_held_bytes": 25_000_000,
        "max_body_bytes": 10_000_000,
        "max_queue_seconds": 300,
    }
    with running_server(bundle_dir, **limits) as server, server.client() as client:
        taken = client.post("/tokenize", json=document)
        size = len(taken.content)
        assert taken.status_code == 200, taken.text
        # More than the system takes in; of three, one too many.
        assert 9_000_000 < size < 12_000_000 < limits["max_held_bytes"] < 3 * size
        request = post("/tokenize", "application/json", httpx.Request("POST", "/", json=document).content)
        with connect(server, receiving=4096) as one, connect(server, receiving=4096) as two:
            for greedy in (one, two):
                greedy.sendall(request)
            while metric(client, "tessera_held_bytes") < 2 * size:
                time.sleep(0.01)
            refused = client.post("/tokenize", json=document)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert client.post("/tokenize", json=texts(3)).status_code == 200
            while metric(client, "tessera_held_bytes") > 0:
                time.sleep(0.01)
            assert client.post("/tokenize", json=document).status_code == 200


def test_a_thousand_half_sent_requests_stop_nobody(bundle_dir: Path) -> None:
    with running_server(bundle_dir, max_connections=100) as server:
        halves = []
        try:
            for number in range(1000):
                halves.append(connect(server))
                halves[-1].sendall((BODY, BODY[:30], b"")[number % 3])
                if number % 50 == 0:
                    (answer,) = ask(server, GOOD)
                    assert answer.status == 200
            with server.client() as client:
                assert metric(client, "tessera_inflight") <= 100
        finally:
            for half in halves:
                half.close()


def test_where_all_are_served_one_more_is_refused(bundle_dir: Path) -> None:
    long = post("/tokenize", "audio/flac", sound_file("flac", chirp(600.0), 16_000))
    port = free_port()
    with (
        running_server(bundle_dir, max_connections=2, admin_port=port) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as admin,
        connect(server) as one,
        connect(server) as two,
    ):
        for busy in (one, two):
            busy.sendall(long)
        while metric(admin, "tessera_held_bytes") < 2 * len(long) - 1000:
            time.sleep(0.01)
        (answer,) = ask(server, GOOD)
        assert (answer.status, answer.code) == (503, "overloaded")
        assert "retry-after" in answer.headers
        assert answer.document["error"]["setting"] == "TESSERA_MAX_CONNECTIONS"


def test_a_body_that_does_not_come_holds_up_no_shutdown(bundle_dir: Path) -> None:
    with running_server(bundle_dir, drain_seconds=1) as server, connect(server) as slow:
        slow.sendall(BODY)
        with server.client() as client:
            while metric(client, "tessera_inflight") < 2:
                time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        (answer,) = answers_in(b"".join(iter(lambda: slow.recv(65_536), b"")))
        assert (answer.status, answer.code) == (503, "shutting_down")
        assert server.process.wait(300) == 0
