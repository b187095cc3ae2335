"""`tessera serve --frontends 2`: what one process promises, two keep together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.inputs import features_input
from tests.service.running import RunningServer, address_of, running_server
from tests.service.test_promises import metric, texts

TEXT = {"content": "a dog barks", "headers": {"content-type": "text/plain"}}


@contextmanager
def two_front_ends(bundle: Path, **settings: object) -> Iterator[RunningServer]:
    with running_server(bundle, "--frontends", "2", **settings) as server:
        with server.client() as client:
            until(lambda: client.get("/health/ready").status_code == 200)
        yield server


@pytest.fixture(scope="module")
def pair(bundle_dir: Path) -> Iterator[RunningServer]:
    with two_front_ends(bundle_dir) as server:
        yield server


def front_ends(server: RunningServer) -> list[psutil.Process]:
    return sorted(psutil.Process(server.process.pid).children(), key=lambda each: each.pid)


def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; the test's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def clients_of(process: psutil.Process) -> set[int]:
    """The ports of the clients that a front end talks to."""
    return {each.raddr.port for each in process.net_connections("tcp") if each.raddr}


def raw_features(tokenizer: Tokenizer, clips: int = 1) -> dict[str, Any]:
    shape = (clips, 10, *tokenizer.feature_shape("audio"))
    values = np.random.default_rng(clips).normal(size=shape).astype("<f4")
    query = f"modality=audio&dtype=float32&shape={','.join(map(str, shape))}"
    return {
        "url": f"/tokenize?{query}",
        "content": values.tobytes(),
        "headers": {"content-type": "application/octet-stream"},
    }


@contextmanager
def many_clients(server: RunningServer, count: int = 24) -> Iterator[list[httpx.Client]]:
    """Clients with a connection each; both front ends have some."""
    clients = [server.client() for _ in range(count)]
    try:
        while True:
            for client in clients:
                assert client.get("/health/ready").status_code == 200
            if all(clients_of(each) for each in front_ends(server)):
                break
            for client in clients:
                client.close()
            clients = [server.client() for _ in range(count)]
        yield clients
    finally:
        for client in clients:
            client.close()


def code_of(answer: httpx.Response) -> str:
    return "ok" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def sent(clients: list[httpx.Client], request: dict[str, Any]) -> list[Future[httpx.Response]]:
    pool = ThreadPoolExecutor(len(clients))
    futures = [pool.submit(client.post, **request) for client in clients]
    pool.shutdown(wait=False)
    return futures


def test_codes_are_those_of_one_process(
    pair: RunningServer, client: httpx.Client, tokenizer: Tokenizer, wav: bytes, mp4: bytes
) -> None:
    requests: list[dict[str, Any]] = [
        {"url": "/tokenize", "content": wav, "headers": {"content-type": "audio/wav"}},
        {"url": "/tokenize", "content": mp4, "headers": {"content-type": "video/mp4"}},
        {"url": "/tokenize", **TEXT},
        {"url": "/tokenize", "json": texts(3, 40, 2) | {"include": ["margins", "embeddings"]}},
        {"url": "/tokenize", "json": {"inputs": [features_input(tokenizer, 13)]}},
        raw_features(tokenizer, 5),
        {"url": "/tokenize", "content": b"no sound", "headers": {"content-type": "audio/wav"}},
        {"url": "/tokenize", "json": {"inputs": []}},
    ]
    with many_clients(pair, 6) as clients:
        for request in requests:
            alone = client.post(**request)
            for each in clients:
                answer = each.post(**request)
                assert answer.status_code == alone.status_code
                if alone.status_code == 200:
                    assert answer.json()["data"] == alone.json()["data"]
                else:
                    assert code_of(answer) == code_of(alone)
        for path in ("/limits", "/models"):
            assert clients[0].get(path).json()["data"] == client.get(path).json()["data"]


def test_requests_reach_both_and_every_one_is_counted_once(pair: RunningServer) -> None:
    with many_clients(pair) as clients:
        route = 'tessera_requests_total{code="200",route="/tokenize"}'
        names = [route, 'tessera_items_total{modality="text",model="tiny"}', "tessera_queue_items"]
        before = [metric(clients[0], name) for name in names]
        for answer in sent(clients * 2, {"url": "/tokenize", **TEXT}):
            assert answer.result().status_code == 200
        for client in clients:
            after = [metric(client, name) for name in names]
            assert [now - then for now, then in zip(after, before, strict=True)] == [48, 48, 0]
        text = clients[0].get("/metrics").text
        assert text.count("\ntessera_ready 1.0\n") == text.count("\npython_info{") == 1


def test_limits_hold_for_both_together(bundle_dir: Path, tokenizer: Tokenizer) -> None:
    request = raw_features(tokenizer)
    size = len(request["content"])
    with (
        two_front_ends(bundle_dir, max_queue_bytes=6 * size + 1) as server,
        many_clients(server) as clients,
    ):
        server.process.send_signal(signal.SIGSTOP)
        answers = sent(clients, request)
        until(lambda: sum(answer.done() for answer in answers) == len(clients) - 6)
        assert {code_of(answer.result()) for answer in answers if answer.done()} == {"overloaded"}
        server.process.send_signal(signal.SIGCONT)
        assert sorted(code_of(each.result()) for each in answers) == ["ok"] * 6 + ["overloaded"] * 18
        until(lambda: metric(clients[0], "tessera_queue_bytes") == 0)
        assert metric(clients[0], "tessera_queue_cost_seconds") == 0


def test_a_hung_owner_is_not_live(bundle_dir: Path) -> None:
    with two_front_ends(bundle_dir, stall_seconds=1) as server, server.client() as client:
        assert client.get("/health/live").status_code == 200
        server.process.send_signal(signal.SIGSTOP)
        until(lambda: client.get("/health/live").status_code == 503)
        assert client.get("/health/ready").status_code == 503
        server.process.send_signal(signal.SIGCONT)
        until(lambda: client.get("/health/live").status_code == 200)


def test_sigterm_loses_nothing(bundle_dir: Path) -> None:
    long = sound_file("flac", chirp(120.0), 16_000)
    request = {"url": "/tokenize", "content": long, "headers": {"content-type": "audio/flac"}}
    with two_front_ends(bundle_dir) as server, many_clients(server, 8) as clients:
        answers = sent(clients, request)
        with server.client() as watching:
            until(lambda: metric(watching, "tessera_held_bytes") >= 8 * len(long))
        server.process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code for answer in answers] == [200] * 8
        assert server.process.wait(300) == 0


def test_a_dead_front_end_takes_only_its_own_requests_along_and_comes_back(
    bundle_dir: Path, tokenizer: Tokenizer
) -> None:
    with two_front_ends(bundle_dir) as server, many_clients(server) as clients:
        doomed, other = front_ends(server)
        route = 'tessera_requests_total{code="200",route="/health/ready"}'
        counted = metric(clients[0], route)
        server.process.send_signal(signal.SIGSTOP)
        lost, kept = len(clients_of(doomed)), len(clients_of(other))
        assert lost + kept == len(clients)
        answers = sent(clients, raw_features(tokenizer))
        time.sleep(0.5)  # they wait for the owner, which stands still
        doomed.kill()
        until(lambda: sum(answer.done() for answer in answers) == lost)
        server.process.send_signal(signal.SIGCONT)
        errors = [answer.exception() for answer in answers]
        assert sum(isinstance(error, httpx.TransportError) for error in errors) == lost
        assert [a.result().status_code for a, e in zip(answers, errors, strict=True) if not e] == [200] * kept
        until(lambda: len(front_ends(server)) == 2)
        with server.client() as client:
            until(lambda: metric(client, "tessera_queue_bytes") == 0)
            until(lambda: metric(client, "tessera_queue_items") == 0)
            assert metric(client, route) >= counted
        with many_clients(server) as again:
            assert {each.post(**raw_features(tokenizer)).status_code for each in again} == {200}


def test_a_front_end_that_does_not_stay_ends_the_server(bundle_dir: Path) -> None:
    with two_front_ends(bundle_dir) as server:
        doomed, other = front_ends(server)
        doomed.kill()
        until(lambda: set(front_ends(server)) - {doomed, other})
        (replacement,) = set(front_ends(server)) - {doomed, other}
        replacement.kill()
        assert server.process.wait(300) == 2
        assert gone(other)
        assert server.process.stderr is not None
        assert "does not stay alive" in server.process.stderr.read()


def test_without_the_owner_nothing_stays(bundle_dir: Path, tokenizer: Tokenizer) -> None:
    with two_front_ends(bundle_dir) as server, many_clients(server) as clients:
        both = front_ends(server)
        server.process.send_signal(signal.SIGSTOP)
        answers = sent(clients, raw_features(tokenizer))
        time.sleep(0.5)  # most wait for the owner, which stands still
        server.process.kill()
        errors = [answer.exception() for answer in answers]
        told = {code_of(a.result()) for a, error in zip(answers, errors, strict=True) if not error}
        assert told >= {"device_lost"}
        assert told <= {"device_lost", "shutting_down"}
        until(lambda: all(map(gone, both)))


def test_a_lost_device_ends_the_server(bundle_dir: Path) -> None:
    command = [sys.executable, "-m", "tests.service.frontends.doomed", str(bundle_dir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        server = RunningServer(address_of(process), process)
        both = front_ends(server)
        with server.client() as client:
            until(lambda: client.get("/health/ready").status_code == 200)
            process.send_signal(signal.SIGUSR1)
            codes: list[str] = []
            until(lambda: codes.append(code_of(client.post("/tokenize", **TEXT))) or codes[-1] != "ok")
            assert codes[-1] == "device_lost"
        assert process.wait(300) != 0
        assert all(map(gone, both))
        assert process.stderr is not None
        assert "DeviceLost" in process.stderr.read()


def test_metrics_of_all_are_on_the_admin_port(bundle_dir: Path) -> None:
    with httpx.Client() as outside, two_front_ends(bundle_dir, admin_port=free_port()) as server:
        port = int(psutil.Process(server.process.pid).environ()["TESSERA_ADMIN_PORT"])
        with many_clients(server, 6) as clients:
            assert clients[0].get("/metrics").status_code == 404
            route = 'tessera_requests_total{code="200",route="/health/ready"}'
            text = outside.get(f"http://127.0.0.1:{port}/metrics", timeout=300).text
            (line,) = [line for line in text.splitlines() if line.startswith(route)]
            assert float(line.rpartition(" ")[2]) >= 6


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
