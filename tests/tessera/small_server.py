"""A server of one process that gives the answers of a list, one after the other, and keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer; `drop` breaks the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass
class SmallServer:
    """What it was asked, and what it will answer; the last answer is given for ever."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    asked: list[Message] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def next(self) -> Reply:
        """The answer of this request."""
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def failure(status: int, code: str, *, retryable: bool, **headers: str) -> Reply:
    """An answer in the envelope of the contract."""
    error = {"code": code, "type": "server_error", "message": f"it is {code}", "retryable": retryable}
    return Reply(status, {"error": {**error, "request_id": "theirs"}}, headers)


MODELS = Reply(body={"object": "list", "data": []})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: SmallServer

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server_of.asked.append(self.headers)
        self.server_of.paths.append(self.path)
        reply = self.server_of.next()
        if reply.drop:
            self.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


@contextmanager
def small_server(*replies: Reply, port: int = 0) -> Iterator[SmallServer]:
    """A server on `port`, or on a free one."""
    small = SmallServer(replies=list(replies))
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"server_of": small}))
    small.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield small
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
