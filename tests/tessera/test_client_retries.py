"""When the client tries again, and what it says when it does not: against a real small server."""

from __future__ import annotations

import asyncio
import inspect
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    QuotaExceeded,
    RequestRefused,
    Retries,
    ServerFault,
    ServerUnavailable,
    TesseraApiError,
    Text,
    UnexpectedAnswer,
)
from tessera.client.errors import Fault
from tessera.client.retries import seconds_of
from tests.tessera.small_server import MODELS, Reply, failure, small_server

SOON = Retries(first_wait=0.01, longest_wait=0.02)
FULL = failure(503, "overloaded", retryable=True)

Ask = Callable[[str], list[Any]]


def ask(url: str, **options: Any) -> list[Any]:
    with Client(url, retries=SOON, **options) as client:
        return client.models()


def ask_with_asyncio(url: str, **options: Any) -> list[Any]:
    async def scenario() -> list[Any]:
        async with AsyncClient(url, retries=SOON, **options) as client:
            return await client.models()

    return asyncio.run(scenario())


both = pytest.mark.parametrize("asking", [ask, ask_with_asyncio])


@both
def test_what_is_retryable_is_sent_again_under_one_id(asking: Ask) -> None:
    late = failure(504, "deadline_exceeded", retryable=True)
    quota = failure(429, "quota", retryable=True)
    with small_server(FULL, late, quota, MODELS) as server:
        assert asking(server.url) == []
        assert len(server.asked) == 4
        assert len({asked["x-request-id"] for asked in server.asked}) == 1
        left = [int(asked["x-request-timeout-ms"]) for asked in server.asked]
        assert left == sorted(left, reverse=True)
        assert 0 < left[-1] <= left[0] <= 120_000


@both
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (failure(422, "invalid_value", retryable=False), RequestRefused),
        (failure(500, "internal_error", retryable=False), ServerFault),
        (failure(503, "device_lost", retryable=False), ServerUnavailable),
        (failure(429, "quota", retryable=False), QuotaExceeded),
        (Reply(503, b"<html>a proxy speaks</html>"), ServerUnavailable),
        (Reply(404, {"detail": "not here"}), RequestRefused),
        (Reply(302, b"", {"location": "/elsewhere"}), UnexpectedAnswer),
        (Reply(200, b"<html>"), UnexpectedAnswer),
        (Reply(200, {"data": [{"id": 1}]}), UnexpectedAnswer),
    ],
)
def test_what_is_not_retryable_is_sent_once(asking: Ask, reply: Reply, kind: type[TesseraApiError]) -> None:
    with small_server(reply) as server:
        with pytest.raises(kind) as caught:
            asking(server.url)
        assert len(server.asked) == 1
    error = caught.value
    assert error.status == reply.status
    assert error.message == str(error)
    assert "<html>" not in error.message
    if isinstance(reply.body, dict) and "error" in reply.body:
        assert (error.code, error.request_id) == (reply.body["error"]["code"], "theirs")
    else:
        assert error.code == "unexpected_answer"


@both
def test_tries_have_an_end_and_the_last_error_is_raised(asking: Ask) -> None:
    with small_server(FULL) as server:
        with pytest.raises(ServerUnavailable, match="it is overloaded") as caught:
            asking(server.url)
        assert len(server.asked) == 1 + SOON.most
    assert caught.value.retryable


@both
@pytest.mark.parametrize("form", ["60", "date"])
def test_a_wait_longer_than_the_time_left_is_not_begun(asking: Ask, form: str) -> None:
    wait = form if form == "60" else format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with small_server(failure(503, "overloaded", retryable=True, **{"Retry-After": wait}), MODELS) as server:
        with pytest.raises(ServerUnavailable):
            asking(server.url, timeout=30)  # type: ignore[call-arg]
        assert len(server.asked) == 1


@both
@pytest.mark.parametrize("wait", ["0", "Thu, 01 Jan 2026 00:00:00 GMT", "soon"])
def test_a_wait_that_is_over_or_unreadable_is_not_waited_for(asking: Ask, wait: str) -> None:
    with small_server(failure(503, "overloaded", retryable=True, **{"Retry-After": wait}), MODELS) as server:
        assert asking(server.url) == []


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    patient = Retries(most=10_000, first_wait=0.01, longest_wait=0.02)
    with Client(f"http://127.0.0.1:{port}", retries=patient) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.models)
        while not asked.running():
            time.sleep(0.001)
        with small_server(MODELS, port=port):
            assert asked.result(300) == []


@both
def test_a_server_that_never_comes_is_unavailable(asking: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerUnavailable, match=r"no server answers at http://127\.0\.0\.1") as caught:
        asking(f"http://127.0.0.1:{port}")
    assert caught.value.code == "unreachable"
    assert caught.value.retryable
    assert caught.value.request_id


@both
def test_a_connection_that_breaks_is_not_tried_again(asking: Ask) -> None:
    with small_server(Reply(drop=True), MODELS) as server:
        with pytest.raises(ServerUnavailable) as caught:
            asking(server.url)
        assert len(server.asked) == 1
    assert caught.value.code == "connection_lost"
    assert not caught.value.retryable


@both
def test_no_answer_in_time_is_a_deadline(asking: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineExceeded) as caught:
            asking(url, timeout=0.05)  # type: ignore[call-arg]
    assert caught.value.code == "deadline_exceeded"


def test_ready_asks_once() -> None:
    with small_server(failure(503, "not_ready", retryable=True)) as server, Client(server.url) as client:
        assert client.ready() is False
        assert len(server.asked) == 1
        server.replies = [Reply(body={"status": "ready"})]
        assert client.ready() is True
        server.replies = [Reply(body={"status": "what?"})]
        with pytest.raises(UnexpectedAnswer):
            client.ready()


def test_bulk_work_says_so() -> None:
    with small_server(Reply(body={"data": []})) as server, Client(server.url) as client:
        client.tokenize([Text("dog")], priority="bulk")
        client.tokenize([Text("dog")])
        assert [asked["x-priority"] for asked in server.asked] == ["bulk", None]
        assert server.asked[0]["accept"] == "application/msgpack"


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "http://", "", "http://host:port", "/tokenize"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a server"):
        Client(url)


def test_a_path_before_the_routes_stays() -> None:
    with small_server(MODELS) as server, Client(f"{server.url}/tessera/") as client:
        client.models()
        assert server.paths == ["/tessera/models"]


def test_a_time_without_end_is_a_long_one() -> None:
    with small_server(MODELS) as server, Client(server.url, timeout=math.inf) as client:
        assert client.models() == []
        assert server.asked[0]["x-request-timeout-ms"] == "999999000"


def test_an_option_that_is_none_is_refused() -> None:
    with Client("http://localhost:1") as client, pytest.raises(TypeError):
        client.tokenize([], speed=2)  # type: ignore[call-arg]


def test_both_clients_have_the_same_surface() -> None:
    def surface(kind: type) -> dict[str, list[Any]]:
        return {
            name.replace("__a", "__"): list(inspect.signature(function).parameters.values())
            for name, function in vars(kind).items()
            if inspect.isfunction(function) and not name.startswith("_t")
        }

    assert surface(Client) == surface(AsyncClient)


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 7 ", 7),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30),
        ("1.5", None),
        ("-1", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, NOW) == seconds


@given(
    attempt=st.integers(0, 50),
    left=st.floats(0, 1000),
    asked=st.none() | st.floats(0, 1000),
    most=st.integers(0, 60),
    retryable=st.booleans(),
)
def test_a_wait_is_bounded_and_never_shorter_than_asked(
    attempt: int, left: float, asked: float | None, most: int, retryable: bool
) -> None:
    error = TesseraApiError(Fault(code="x", message="x", retryable=retryable, retry_after=asked))
    wait = Retries(most=most, first_wait=0.5, longest_wait=4).wait(error, attempt, left)
    if wait is None:
        assert not retryable or attempt >= most or (asked or 0) + 4 >= left
    else:
        assert retryable
        assert (asked or 0) <= wait <= (asked or 0) + min(4, 0.5 * 2**attempt)
        assert wait < left


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900)


def test_tessera_alone_does_not_import_httpx() -> None:
    done = run("import sys, tessera, tessera.cli; tessera.cli.build_app(); print('httpx' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_without_httpx_it_says_what_to_install() -> None:
    missing = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'httpx' else real(name, *rest)\n"
    )
    assert "pip install 'tessera[client]'" in run(f"{missing}import tessera.client").stderr
    command = run(
        f"{missing}import sys; sys.argv = ['tessera', 'tokenize', '-t', 'x', '--server', 'http://x']\n"
        "from tessera.cli import main; main()"
    )
    assert command.returncode == 2
    assert command.stderr == "tessera: tessera.client needs one more package: pip install 'tessera[client]'\n"


def test_threads_may_be_the_first_to_read_answers_together() -> None:
    """msgspec crashes the process when they meet in the first reading of a kind of document."""
    done = run(
        "import sys, threading, httpx, msgspec\n"
        "from tessera.client.answers import read_tokenized\n"
        "item = {'index': 0, 'segments': {'hop_sec': 1.0, 'start_sec': 0.0}, 'codes': [[1]]}\n"
        "headers = {'content-type': 'application/msgpack'}\n"
        "reply = httpx.Response(200, content=msgspec.msgpack.encode({'data': [item]}), headers=headers)\n"
        "sys.setswitchinterval(1e-6)\n"
        "gate = threading.Barrier(8)\n"
        "threads = [threading.Thread(target=lambda: (gate.wait(), read_tokenized(reply))) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
