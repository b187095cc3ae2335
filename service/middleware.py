"""Around every request, as plain ASGI: its id and last-resort answer, its deadline, the size of its body."""

from __future__ import annotations

import asyncio
import logging
import time

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Room
from service.errors import ApiError, ClientDisconnected
from service.metrics import Metrics
from service.settings import Settings, setting_name
from service.trace import Trace
from service.tracing import Tracing

_log = logging.getLogger(__name__)
_DISCONNECTED = 499  # never on the wire: the client is gone; it is what the metric says
_UNMATCHED = "unmatched"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def error_body(error: ApiError, request_id: str) -> tuple[bytes, dict[str, str]]:
    """The envelope of `error` and its headers."""
    headers = {"content-type": "application/json", **error.headers}
    retry_after = error.retry_after or error.spec.retry_after
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return orjson.dumps({"error": error.document(request_id)}), headers


class RequestContext:
    """Outermost: request id, `Server-Timing`, metrics, spans, and an answer for what nobody else caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace.begin(scope)
        if self._tracing is not None:
            self._tracing.begin(scope, trace)
        answer = _Answer(send, trace)
        self._metrics.inflight += 1
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnected:
            answer.status = _DISCONNECTED
        except asyncio.CancelledError:
            # The time for draining is over. Nothing is cancelled after this.
            await answer.fail(ApiError("shutting_down", "the server ended before this was answered"))
        except Exception as error:
            if not isinstance(error, ApiError):
                _log.exception("request failed")
                error = ApiError.internal()
            await answer.fail(error)
        finally:
            route: str | None = getattr(scope.get("route"), "path", None)
            self._metrics.inflight -= 1
            # There are as many routes as the application has, however many paths clients try.
            self._metrics.request(route or _UNMATCHED, answer.status, trace.elapsed)
            if trace.span is not None and self._tracing is not None:
                self._tracing.end(trace, scope["method"], route, answer.status)
            if answer.status >= 500 or _log.isEnabledFor(logging.DEBUG):
                _log_request(trace, scope["method"], route, answer.status)


class _Answer:
    """The answer of one request on its way out; it is begun at most once."""

    def __init__(self, send: Send, trace: Trace) -> None:
        self.status = 0
        self._send = send
        self._trace = trace

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self._trace.request_id.encode()),
                (b"server-timing", self._trace.server_timing().encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        await self._send(message)

    async def fail(self, error: ApiError) -> None:
        """Answer with `error`, unless an answer has begun."""
        if self.status:
            return
        self._trace.error = error.code
        body, headers = error_body(error, self._trace.request_id)
        fields = {**headers, "content-length": str(len(body))}
        await self.send(
            {
                "type": "http.response.start",
                "status": error.spec.status,
                "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def _log_request(trace: Trace, method: str, route: str | None, status: int) -> None:
    """One line; a warning where the server failed, but never where it refused: that is its way out of trouble."""
    level = logging.DEBUG
    if status == 500:
        level = logging.ERROR
    elif trace.error in ("deadline_exceeded", "device_lost"):
        level = logging.WARNING
    if not _log.isEnabledFor(level):
        return
    named = method if method in _METHODS else "other"
    _log.log(
        level,
        "%s %s %d",
        named,
        route or _UNMATCHED,
        status,
        extra={
            "route": route or _UNMATCHED,
            "status": status,
            "duration_ms": round(1000 * trace.elapsed, 3),
            "error": trace.error,
            "model": trace.model,
            "items": trace.items or None,
            "segments": trace.segments or None,
            "key": trace.key,
        },
    )


class Deadline:
    """Answers `deadline_exceeded` when the time of a request is over; what it began is cancelled."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace.of(scope)
        asked = trace.header(b"x-request-timeout-ms") if b"x-request-timeout-ms" in trace.headers else None
        seconds = self._settings.request_timeout_seconds if asked is None else self._seconds(asked)
        trace.deadline = time.perf_counter() + seconds
        task = trace.task = asyncio.current_task()
        assert task is not None, "a request is answered in a task. This is a bug."
        # As `asyncio.timeout`, for a fifth of its time.
        timer = asyncio.get_running_loop().call_later(seconds, self._expire, trace, seconds, asked is None)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if trace.expired is None or task.uncancel():
                raise
            if trace.expired.code == "deadline_exceeded":
                self._metrics.failed("deadline", max(1, trace.items))
            raise trace.expired from None
        finally:
            timer.cancel()

    def _expire(self, trace: Trace, seconds: float, own: bool) -> None:
        """`own`: the client did not ask for this time."""
        setting = setting_name("request_timeout_seconds") if own else None
        trace.expire(
            ApiError("deadline_exceeded", f"no answer within {seconds:g} s", limit=seconds, setting=setting)
        )

    def _seconds(self, header: str) -> float:
        if not (header.isdecimal() and len(header) < 10 and int(header)):
            raise ApiError(
                "invalid_value",
                "X-Request-Timeout-Ms must be a whole number of milliseconds above 0",
                param="X-Request-Timeout-Ms",
            )
        return min(int(header) / 1000, self._settings.max_request_timeout_seconds)


class BodyLimit:
    """Counts the bytes of bodies as they arrive, and of large answers: of one request, and of all together."""

    def __init__(self, app: ASGIApp, settings: Settings, held: Room) -> None:
        self._app = app
        self._settings = settings
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace.of(scope)
        headers = trace.headers
        if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
            raise ApiError("unsupported_content_encoding", "send the body as it is, without Content-Encoding")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit():
            self._check(int(declared))
        received = answered = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            self._check(received + size)
            self._hold(size)
            received += size
            return message

        def hold(size: int) -> None:
            nonlocal answered
            self._hold(size)
            answered += size

        trace.hold = hold
        try:
            await self._app(scope, counted, send)
        finally:
            self._held.give_back(received + answered)

    def _check(self, size: int) -> None:
        settings = self._settings
        if size > settings.max_body_bytes:
            raise ApiError(
                "body_too_large",
                f"a body of {size} bytes or more, the limit is {settings.max_body_bytes}",
                limit=settings.max_body_bytes,
                actual=size,
                setting=setting_name("max_body_bytes"),
            )

    def _hold(self, size: int) -> None:
        if not self._held.take(size):
            raise ApiError(
                "overloaded",
                "too many bytes of requests and answers are held; try again",
                limit=self._held.capacity,
                actual=self._held.used + size,
                setting=setting_name("max_held_bytes"),
            )


class TooMany:
    """In place of the application, where so many clients are connected that another cannot be served."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ApiError(
            "overloaded",
            "too many clients are connected; try again",
            limit=self._most,
            setting=setting_name("max_connections"),
        )
