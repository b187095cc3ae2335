"""Connections of clients: so many at most, and none that waits without end for a client to speak, to end, or to read.

uvicorn has no time limit before a request is complete, none for an answer that is not read, and none for the size of a
head. Here a connection has a turn: its client's, while a request arrives or an answer is being taken, or the server's.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import ApiError
from service.middleware import error_body
from service.settings import Settings, setting_name
from service.trace import Trace, random_id

_PIPELINED = 16
"""Requests that a client may send ahead of its answers."""

_AT_ONCE = 64
"""Where one connection has to give way, one in so many does: to look for the oldest takes a while."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the connections of one process; `refuse` answers on those that are too many."""

    most: int
    head_bytes: int
    silence_seconds: float
    transfer_seconds: float
    refuse: ASGIApp

    @classmethod
    def of(cls, settings: Settings, most: int, refuse: ASGIApp) -> Bounds:
        """Those of `settings`, with the part of all connections that this process takes."""
        return cls(
            most,
            settings.max_head_bytes,
            settings.max_silence_seconds,
            settings.max_transfer_seconds,
            refuse,
        )


class Connection(HttpToolsProtocol):
    """One client."""

    def __init__(self, bounds: Bounds, **given: Any) -> None:
        super().__init__(**given)
        self.turn = self.moved = 0.0  # when the client's turn began, and when something last came or went
        self._bounds = bounds
        self._whole = False  # whether the request that arrives is here
        self._unread = 0  # bytes that came since the last that were a body, or the end of a request
        self._buffered = 0  # bytes of answers that were not taken yet
        self._ended = False  # whether nothing more is read
        self._last = False  # whether no other request is read after the one that comes

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn."""
        return not self._whole or self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio's. One connection too many is made up for by those that wait longest for their clients."""
        super().connection_made(transport)
        self.turn = self.moved = self.loop.time()
        if len(self.connections) > self._bounds.most:
            self._make_room()

    def on_headers_complete(self) -> None:
        """A request can be begun, if there are not as many already."""
        if len(self.connections) > self._bounds.most and self._is_one_too_many():
            self.app = self._bounds.refuse
        super().on_headers_complete()
        if self._last:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        self.moved = self.loop.time()
        if self._ended:
            return
        self._unread += len(data)
        super().data_received(data)
        if not self._whole:
            if self._arriving:
                self.cycle.transport = cast(asyncio.Transport, _Lingering(self))
            if self._unread > self._bounds.head_bytes:
                self._refuse_head()
        elif self.pipeline and (len(self.pipeline) > _PIPELINED or len(self.cycle.body) > HIGH_WATER_LIMIT):
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._whole = False
        self.turn = self.moved
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A part of it is here."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._whole = True
        self._unread = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered."""
        self.turn = self.loop.time()
        super().on_response_complete()

    def check(self, now: float) -> None:
        """End what takes too long; to be called now and then."""
        buffered = self.transport.get_write_buffer_size()
        if buffered != self._buffered:
            if not self._buffered:
                self.turn = now
            self._buffered, self.moved = buffered, now
        bounds = self._bounds
        if self._whole and not buffered:
            return
        if now - self.moved > bounds.silence_seconds:
            self._expire(bounds.silence_seconds, "max_silence_seconds")
        elif now - self.turn > bounds.transfer_seconds:
            self._expire(bounds.transfer_seconds, "max_transfer_seconds")

    def shutdown(self) -> None:
        """The server ends: what was asked is answered, also if it was not read yet."""
        if self.waits and not any(_silent([self])):
            self._last = True
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the one envelope too."""
        self._ended = True
        # By then a request whose body is not well-formed has begun, if its head came with it.
        self.loop.call_soon(self._end, ApiError("malformed_body", "this is not a request of HTTP/1.1"))

    def _expire(self, seconds: float, setting: str) -> None:
        """Only who sends a body is told: else nothing was asked, or an answer is not taken."""
        if not self._arriving:
            self.transport.abort()
            return
        message = f"the body did not arrive: {seconds:g} s"
        self._end(
            ApiError("deadline_exceeded", message, limit=seconds, setting=setting_name(setting)),
        )

    def _refuse_head(self) -> None:
        self._ended = True
        size, most = self._unread, self._bounds.head_bytes
        self._end(
            ApiError(
                "malformed_body",
                f"the head of the request has {size} bytes or more, the limit is {most}",
                limit=most,
                actual=size,
                setting=setting_name("max_head_bytes"),
            )
        )

    @property
    def _arriving(self) -> bool:
        """Whether the body of a request is on its way whose answer has not begun."""
        cycle = self.cycle
        return not (self._whole or cycle is None or cycle.response_started) and cycle.scope is self.scope

    def _end(self, error: ApiError) -> None:
        """Answer `error` to what arrives, and hang up; where another answer is under way, hang up."""
        if self._arriving:
            trace = Trace.find(self.scope)
            if trace is None or not trace.expire(error):
                self.transport.abort()
            self.cycle.keep_alive = False
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.write(_whole_answer(error))
            self.linger()
        else:
            self.transport.abort()

    def linger(self) -> None:
        """Hang up. A client that still sends would lose its answer if nobody listened, so what it sends is dropped."""
        self._ended = True
        if self._whole or self.transport.is_closing():
            self.transport.close()
        else:
            self.turn = self.loop.time()
            self.transport.write_eof()

    @property
    def ended(self) -> bool:
        """Whether nothing more is said."""
        return self._ended or self.transport.is_closing()

    def _make_room(self) -> None:
        """End the connections that wait longest for their clients."""
        others = [c for c in self.connections if isinstance(c, Connection) and c is not self and c.waits]
        oldest = nsmallest(max(1, self._bounds.most // _AT_ONCE), _silent(others), key=lambda each: each.turn)
        for connection in oldest:
            self.connections.discard(connection)
            connection.transport.abort()

    def _is_one_too_many(self) -> bool:
        busy = sum(isinstance(c, Connection) and not c.waits for c in self.connections)
        return busy >= self._bounds.most


def _silent(connections: Sequence[Connection]) -> Iterator[Connection]:
    """Those whose clients said nothing that was not read: where many come at once, it is read later."""
    if not hasattr(select, "poll"):  # Windows
        return iter(connections)
    found = {c.transport.get_extra_info("socket").fileno(): c for c in connections}
    spoken = select.poll()
    for descriptor in found:
        spoken.register(descriptor, select.POLLIN)
    for descriptor, _ in spoken.poll(0):
        del found[descriptor]
    return iter(found.values())


class _Lingering:
    """The transport of an answer that may be ready before its request is here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.close = connection.linger

    def is_closing(self) -> bool:
        """As asyncio's."""
        return self._connection.ended


def _whole_answer(error: ApiError) -> bytes:
    """To what reaches no application."""
    request_id = random_id()
    body, fields = error_body(error, request_id)
    fields |= {"content-length": str(len(body)), "connection": "close", "x-request-id": request_id}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return STATUS_LINE[error.spec.status] + head.encode() + b"\r\n" + body
