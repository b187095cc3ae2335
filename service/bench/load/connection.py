"""One kept-alive HTTP/1.1 connection with at most one request on it, as cheap as Python has it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import httptools


class Owner(Protocol):
    """Whoever sends on connections and is told what came back."""

    def answered(
        self, connection: Connection, due: float, kind: int, status: int, head: bytes, body: bytes
    ) -> None:
        """The request that was `due` has its answer; `head` has at least the header lines where it was short."""

    def lost(self, connection: Connection, unanswered: tuple[float, int] | None) -> None:
        """The connection is gone, and with it the answer of the request that was on it."""


class Connection(asyncio.Protocol):
    """The parser calls `on_body` and `on_message_complete`; it has no other callback, as each costs."""

    def __init__(self, owner: Owner) -> None:
        self.idle_since = 0.0
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._request: tuple[float, int] | None = None
        self._head = b""
        self._body = b""

    def send(self, data: bytes, due: float, kind: int) -> None:
        """Send a request that was `due` (seconds, `time.monotonic`) and is of `kind`."""
        self._request = (due, kind)
        self._transport.write(data)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def abandon(self) -> tuple[float, int] | None:
        """Hang up without waiting, and give back the request that was not answered, if there is one."""
        unanswered, self._request = self._request, None
        self._transport.abort()
        return unanswered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if not self._head:
            self._head = data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_body(self, chunk: bytes) -> None:
        """Of httptools."""
        self._body = self._body + chunk if self._body else chunk

    def on_message_complete(self) -> None:
        """Of httptools."""
        if self._request is None:
            self._transport.abort()
            return
        (due, kind), self._request = self._request, None
        head, self._head = self._head, b""
        body, self._body = self._body, b""
        self.idle_since = time.monotonic()
        keep = self._parser.should_keep_alive()
        if not keep:
            self._transport.close()
        self._owner.answered(self, due, kind, self._parser.get_status_code(), head, body)

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        unanswered, self._request = self._request, None
        self._owner.lost(self, unanswered)
