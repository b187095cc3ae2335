"""What every answer has in common: its id, the model and its revision; and how faults become answers."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from service.engine import Engine
from service.errors import ApiError, ErrorCode
from service.middleware import error_body
from service.serving import Served
from service.trace import Trace, random_id

_HTTP_CODES: dict[int, tuple[ErrorCode, str]] = {
    404: ("not_found", "there is no such path"),
    405: ("method_not_allowed", "this path does not take this method"),
}


def engine_of(request: Request) -> Engine:
    """The engine of the application."""
    engine: Engine = request.app.state.engine
    return engine


def stamped(model: Served, prefix: str, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` behind the id and the model that every answer carries."""
    return {
        "id": f"{prefix}_{random_id()}",
        "model": model.name,
        "model_revision": model.opener.bundle.revision,
        **fields,
    }


_LARGE_BYTES = 64 * 1024
"""Of an answer: what is below lies in the buffer of its connection, whether or not the client takes it."""


class BodyAnswer(Response):
    """What is answered in one piece, without headers but those of the body; that takes a third of another's time.

    A large one is held until its client took it.
    """

    def __init__(self, body: bytes, media_type: str) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI's."""
        large = len(self.body) > _LARGE_BYTES
        if large:
            trace = Trace.of(scope)
            trace.hold(len(self.body))
            trace.task = (
                None  # from now on it takes the time that its client takes, which the connection bounds
            )
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": large})
        if large:
            # Waits until the buffer of the connection is nearly empty.
            await send({"type": "http.response.body", "body": b""})


def json_answer(document: dict[str, Any]) -> Response:
    """A small document as JSON."""
    return Response(orjson.dumps(document), media_type="application/json")


def error_answer(request: Request, error: ApiError) -> Response:
    """The envelope."""
    trace = Trace.of(request.scope)
    trace.error = error.code
    body, headers = error_body(error, trace.request_id)
    return Response(body, error.spec.status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Make every fault that has an answer take the one form; what has none is answered by the middleware."""

    async def on_api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_answer(request, error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, message = _HTTP_CODES.get(error.status_code, ("malformed_body", "the request cannot be read"))
        answer = error_answer(request, ApiError(code, message))
        answer.headers.update(error.headers or {})  # such as Allow
        return answer

    async def on_bug(request: Request, error: Exception) -> Response:
        # The framework raises the error again, so it is logged.
        return error_answer(request, ApiError.internal())

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(Exception, on_bug)
    app.add_exception_handler(HTTPException, on_http_error)
