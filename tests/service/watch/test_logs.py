"""Logs: one line a record whatever a request brings, with what finds it again; and never a flood of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.logs import JsonFormatter, LogFormat, Suppression, TextFormatter, begin_logs
from service.trace import CURRENT, Trace
from tests.media_files import chirp, sound_file
from tests.service.faults import Faulty
from tests.service.running import running_app, running_server
from tests.service.test_serve import one_sentence, started

HOSTILE = st.text() | st.text(alphabet="\r\n\x1b\x85\u2028\u202e\0[31mERROR {}%s\ud800\u009b", min_size=1)
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


@contextmanager
def logger_of(formatter: logging.Formatter) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger, and what it wrote."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    logger = logging.Logger("somebody")
    logger.addHandler(handler)
    yield logger, written


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(False)
    for room in ("service", "tessera"):
        logging.getLogger(room).setLevel(logging.NOTSET)


def scope(**headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "headers": named}


def log_all(logger: logging.Logger, message: str, argument: str, fault: str) -> None:
    """One plain record, and one with an exception."""
    logger.warning(message.replace("%", "%%") + " %s", argument)
    try:
        raise ValueError(fault)
    except ValueError:
        logger.exception("it failed", extra={"error": fault})


@given(message=HOSTILE, argument=HOSTILE, fault=HOSTILE, request_id=st.text(st.characters(max_codepoint=255)))
def test_json_is_a_line_a_record(message: str, argument: str, fault: str, request_id: str) -> None:
    token = CURRENT.set(None)
    Trace.begin(scope(x_request_id=request_id, traceparent=TRACEPARENT))
    try:
        with logger_of(JsonFormatter()) as (logger, written):
            log_all(logger, message, argument, fault)
    finally:
        CURRENT.reset(token)
    text = written.getvalue()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    plain, failed = map(json.loads, text.splitlines())
    assert plain["message"].endswith(argument) or len(plain["message"]) >= 16_384
    assert plain["trace_id"] == "ab" * 16
    assert datetime.fromisoformat(plain["time"]).tzinfo is not None
    assert (failed["exception"]["type"], failed["level"]) == ("ValueError", "error")
    assert failed["error"] == fault


@given(message=HOSTILE, argument=HOSTILE, fault=HOSTILE)
def test_of_text_only_the_first_line_of_a_record_looks_like_one(
    message: str, argument: str, fault: str
) -> None:
    with logger_of(TextFormatter()) as (logger, written):
        log_all(logger, message, argument, fault)
    lines = written.getvalue().split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if not line.startswith("  | ")]) == 2


def test_text_on_a_terminal_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, form, is_json in (
        (True, "auto", False),
        (False, "auto", True),
        (True, "json", True),
        (False, "text", False),
    ):
        written = io.StringIO()
        written.isatty = lambda terminal=terminal: terminal  # type: ignore[method-assign,misc]
        monkeypatch.setattr(sys, "stderr", written)
        chosen: LogFormat = form  # type: ignore[assignment]
        begin_logs(chosen, "warning")
        logging.getLogger("service").warning("told")
        logging.getLogger("service").info("not told")
        (line,) = written.getvalue().splitlines()
        assert line.startswith("{") is is_json


def test_a_place_that_warns_again_and_again_is_counted() -> None:
    now = [0.0]
    suppression = Suppression(lambda: now[0])

    def passes(level: int, line: int, **fields: object) -> bool:
        record = logging.LogRecord("x", level, "/x.py", line, "", (), None)
        record.__dict__.update(fields)
        passed = suppression.filter(record)
        counted.append(getattr(record, "suppressed", 0))
        return passed

    counted: list[int] = []
    assert sum(passes(logging.ERROR, 1) for _ in range(1000)) == 20
    assert sum(passes(logging.DEBUG, 1) for _ in range(1000)) == 1000
    assert sum(passes(logging.ERROR, 2) for _ in range(1000)) == 20
    assert sum(passes(logging.ERROR, 1, status=500) for _ in range(1000)) == 1000
    now[0] += 10
    assert passes(logging.ERROR, 1)
    assert counted[-1] == 980
    assert not passes(logging.ERROR, 1)


async def request_lines(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Records of requests that go well, are wrong, are refused, and break the server."""
    async with running_app(faulty, max_queue_seconds=2) as running:
        texts = ["two words", "", "one two three four", "three words here"]
        faulty.poisonous_segments = None
        for text in texts:
            await running.client.post("/tokenize", content=text, headers={"content-type": "text/plain"})
        faulty.poisonous_segments = 1
        await running.client.post("/tokenize", content="one", headers={"content-type": "text/plain"})
    return [record for record in caplog.records if record.name == "service.middleware"]


async def run_and_check(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    records = await request_lines(faulty, caplog)
    levels = {(record.__dict__["status"], record.levelname) for record in records}
    assert levels == {(200, "DEBUG"), (422, "DEBUG"), (413, "DEBUG"), (500, "ERROR")}


def test_a_refusal_is_no_error(bundle_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.run(run_and_check(Faulty.load(bundle_dir).arm(), caplog))


def test_a_server_speaks_json_with_the_ids_of_requests(bundle_dir: Path) -> None:
    with (
        running_server(bundle_dir, log_level="debug", log_format="json", decode_seconds="0.001") as server,
        server.client() as client,
    ):
        forged = "x\\n{\\u0022level\\u0022: \\u0022error\\u0022}"
        headers = {"x-request-id": "mine.1", "traceparent": TRACEPARENT, "content-type": "text/plain"}
        client.post("/tokenize", content="a dog barks", headers=headers)
        client.get(f"/{forged}", headers={"x-request-id": "not an id"})
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"\x1b[31m no HTTP\r\n\r\n")
            assert b"400" in stranger.recv(1000)
        sound = sound_file("flac", chirp(65.0), 16_000)
        client.post("/tokenize", content=sound, headers={"content-type": "audio/flac"})
        server.process.terminate()
        assert server.process.wait(300) == 0
        assert server.process.stderr is not None
        documents = [json.loads(line) for line in server.process.stderr.read().splitlines()]
    requests = {each["request_id"]: each for each in documents if each["logger"] == "service.middleware"}
    mine = requests["mine.1"]
    assert mine.items() >= {
        "trace_id": "ab" * 16, "route": "/tokenize", "status": 200, "level": "debug", "model": "tiny", "items": 1
    }.items()  # fmt: skip
    assert mine["duration_ms"] > 0
    assert {each["route"] for each in requests.values()} == {"/tokenize", "unmatched"}
    assert {each["status"] for each in requests.values()} == {200, 404, 422}
    assert any(each["logger"].startswith("uvicorn") and each["level"] == "warning" for each in documents)
    assert not any(each["level"] in ("error", "critical") for each in documents)


def test_why_a_server_does_not_start_is_said_in_the_same_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_LOG_FORMAT", "json")
    document = json.loads(one_sentence(started("--bundle", str(tmp_path))))
    assert document["level"] == "critical"
    assert "is not a bundle" in document["message"]
