"""The promises of the service, each in a test that bears its name."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.media_files import chirp, sine, sound_file
from tests.service.faults import Faulty
from tests.service.inputs import b64
from tests.service.running import RunningServer, running_app, running_server

ROOMY: dict[str, Any] = {"max_queue_seconds": 60, "max_inputs": 2}


@pytest.fixture
def faulty(bundle_dir: Path) -> Faulty:
    return Faulty.load(bundle_dir).arm()


def texts(*words: int) -> dict[str, Any]:
    """A request of texts of so many words."""
    return {"inputs": [{"type": "text", "text": "dog " * count} for count in words]}


async def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; the test's own time limit ends a wait in vain."""
    while not condition():
        await asyncio.sleep(0.002)


def metric(client: httpx.Client, name: str) -> float:
    """The value of one series of /metrics."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def head(kind: str, length: int) -> bytes:
    """The head of a request whose body is sent by hand."""
    return f"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


def is_open(url: str) -> bool:
    """Whether a server still takes connections."""
    try:
        httpx.get(f"{url}/health/live", timeout=300)
    except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
        # Refused, or taken in the very moment of closing.
        return False
    return True


def test_promise_1_an_overloaded_server_refuses_at_once_and_answers_what_it_admitted(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty, **ROOMY) as running:
            faulty.gate.clear()
            admitted = [
                asyncio.ensure_future(running.client.post("/tokenize", json=texts(10))) for _ in range(6)
            ]
            await until(lambda: running.engine.default.admission.micros.used == 60_000_000)
            refused = await running.client.post("/tokenize", json=texts(3))
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.json()["error"]["retryable"]
            assert int(refused.headers["retry-after"]) >= 1
            assert not running.engine.ready
            faulty.gate.set()
            answers = await asyncio.gather(*admitted)
            assert {answer.status_code for answer in answers} == {200}
            assert running.engine.default.admission.micros.used == 0
            assert (await running.client.post("/tokenize", json=texts(3))).status_code == 200

    asyncio.run(scenario())


def test_promise_1_a_request_past_its_deadline_is_told_so_and_dropped(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty) as running:
            await until(lambda: running.engine.warm)
            faulty.gate.clear()
            late = await running.client.post(
                "/tokenize", json=texts(3), headers={"x-request-timeout-ms": "50"}
            )
            assert late.status_code == 504
            error = late.json()["error"]
            assert (error["code"], error["limit"]) == ("deadline_exceeded", 0.05)
            assert running.engine.default.admission.micros.used == 0
            assert running.engine.default.device.waiting == 0
            faulty.gate.set()
            assert (await running.client.post("/tokenize", json=texts(3))).status_code == 200

    asyncio.run(scenario())


def test_promise_1_what_a_client_left_is_dropped(server: RunningServer, client: httpx.Client) -> None:
    before = metric(client, 'tessera_item_failures_total{reason="cancelled"}')
    body = sound_file("wav", chirp(600.0), 16_000)
    for _ in range(3):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as leaving:
            leaving.sendall(head("audio/wav", len(body)) + body)
            leaving.shutdown(socket.SHUT_RDWR)
    while metric(client, 'tessera_item_failures_total{reason="cancelled"}') < before + 3:
        time.sleep(0.01)
    while metric(client, "tessera_queue_cost_seconds") > 0:
        time.sleep(0.01)
    assert client.post("/tokenize", json=texts(3)).status_code == 200


def test_promise_2_a_bad_input_never_harms_its_neighbours(
    faulty: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running_app(faulty, max_queue_seconds=100) as running:
            await until(lambda: running.engine.warm)
            faulty.poisonous_segments = 4
            faulty.gate.clear()
            requests = [
                asyncio.ensure_future(
                    running.client.post("/tokenize", json=texts(2, words, 7) | {"on_error": "partial"})
                )
                for words in (3, 4, 5, 4)
            ]
            await until(lambda: running.engine.default.device.waiting == 4)
            faulty.gate.set()
            answers = [answer.json() for answer in await asyncio.gather(*requests)]
            failed = [["error" in entry for entry in answer["data"]] for answer in answers]
            assert failed == [[False] * 3, [False, True, False]] * 2
            error = answers[1]["data"][1]["error"]
            assert error["code"] == "internal_error"
            assert "secret" not in json.dumps(answers)
            alone = await running.client.post("/tokenize", json=texts(4))
            assert alone.status_code == 500
            assert "secret" not in alone.text

    asyncio.run(scenario())
    assert "a secret of the server" in caplog.text


def test_promise_4_ready_means_it_can_infer(faulty: Faulty) -> None:
    async def scenario() -> None:
        faulty.gate.clear()
        async with running_app(faulty) as running:
            await until(faulty.entered.is_set)
            for probe in ("startup", "ready"):
                answer = await running.client.get(f"/health/{probe}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
            assert (await running.client.get("/health/live")).status_code == 200
            faulty.gate.set()
            await until(lambda: running.engine.ready)
            for probe in ("startup", "ready", "live"):
                assert (await running.client.get(f"/health/{probe}")).status_code == 200
            running.engine.draining = True
            assert (await running.client.get("/health/ready")).status_code == 503
            assert (await running.client.get("/health/live")).status_code == 200

    asyncio.run(scenario())


def test_promise_4_a_dead_device_thread_makes_the_process_not_live(faulty: Faulty) -> None:
    async def scenario() -> None:
        async with running_app(faulty) as running:
            await until(lambda: running.engine.ready)
            faulty.deadly = True
            for _ in range(2):
                answer = await running.client.post("/tokenize", json=texts(3))
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "device_lost")
            for probe in ("live", "ready"):
                assert (await running.client.get(f"/health/{probe}")).status_code == 503

    asyncio.run(scenario())


def test_promise_5_sigterm_loses_no_admitted_request(bundle_dir: Path) -> None:
    with running_server(bundle_dir, cache_bytes=0) as server, server.client() as client:
        long = sound_file("flac", chirp(300.0), 16_000)

        def send(_: int) -> httpx.Response:
            return httpx.post(
                f"{server.url}/tokenize", content=long, headers={"content-type": "audio/flac"}, timeout=900
            )

        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(send, index) for index in range(6)]
            while metric(client, "tessera_held_bytes") < 6 * len(long):
                time.sleep(0.002)
            assert metric(client, "tessera_queue_cost_seconds") > 0
            server.process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200] * 6
        assert server.process.wait(300) == 0


def test_promise_5_what_was_not_admitted_before_sigterm_is_sent_elsewhere(bundle_dir: Path) -> None:
    with (
        running_server(bundle_dir) as server,
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as slow,
    ):
        slow.sendall(
            b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\ndog"
        )
        with server.client() as client:
            while metric(client, "tessera_inflight") < 2:
                time.sleep(0.002)
        server.process.send_signal(signal.SIGTERM)
        while is_open(server.url):
            time.sleep(0.002)
        slow.sendall(b"dogs")
        answer = b"".join(iter(lambda: slow.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"shutting_down" in answer
        assert b"retry-after" in answer.lower()
        assert server.process.wait(300) == 0


def test_promise_6_a_long_input_is_never_in_memory_decoded(bundle_dir: Path) -> None:
    decoded = 20 * 60 * 16_000 * 4
    body = sound_file("mp3", sine(20 * 60.0), 16_000)
    with running_server(bundle_dir, cache_bytes=0) as server, server.client() as client:

        def codes(content: bytes) -> Any:
            answer = client.post("/tokenize", content=content, headers={"content-type": "audio/mpeg"})
            assert answer.status_code == 200, answer.text
            return answer.json()["data"][0]["segments"]["count"]

        for _ in range(3):
            assert codes(sound_file("mp3", sine(60.0), 16_000)) == 60
        process, peak, done = psutil.Process(server.process.pid), 0, threading.Event()
        before = process.memory_info().rss

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.01):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            assert codes(body) in (1200, 1201)
        finally:
            done.set()
            watcher.join()
        assert before < peak < before + decoded / 2


def test_promise_6_bodies_are_bounded_each_and_together(bundle_dir: Path) -> None:
    limits = {"max_body_bytes": 200_000, "max_held_bytes": 300_000}
    with running_server(bundle_dir, **limits) as server, server.client() as client:

        def chunks(count: int) -> Any:
            return (bytes(50_000) for _ in range(count))

        headers = {"content-type": "audio/wav"}
        for content in (bytes(200_001), chunks(5)):
            answer = client.post("/tokenize", content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
            assert answer.json()["error"]["setting"] == "TESSERA_MAX_BODY_BYTES"
        address = (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address) as one, socket.create_connection(address) as two:
            for holder in (one, two):
                holder.sendall(head("audio/wav", 150_000) + bytes(140_000))
            while metric(client, "tessera_held_bytes") < 280_000:
                time.sleep(0.002)
            answer = client.post("/tokenize", content=bytes(50_000), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        while metric(client, "tessera_held_bytes") > 0:
            time.sleep(0.002)
        request = {"inputs": [{"type": "audio", "data": b64(sound_file("wav", sine(1.0), 16_000))}]}
        assert client.post("/tokenize", json=request).status_code == 200
