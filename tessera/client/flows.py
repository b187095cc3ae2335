"""What a client does, step by step, without a transport: the two clients differ only in who takes the steps.

A flow is a generator. It yields `Send`, `Wait` or `Run`, is given what became of it, and returns its result.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.client import calls
from tessera.client.answers import Limit, Model, Tokens, failure_of
from tessera.client.calls import Call, DType, Options
from tessera.client.errors import (
    DeadlineExceeded,
    Fault,
    ServerUnavailable,
    TesseraApiError,
)
from tessera.client.retries import Retries
from tessera.client.sources import Part, Source, is_file, listed, opened

Result = TypeVar("Result")
Outcome = Tokens | TesseraApiError | OSError
"""What becomes of one source among many."""

_USER_AGENT = f"tessera/{version('tessera')}"
_CONNECT_SECONDS = 5.0
_LONGEST_SECONDS = 999_999.0  # that X-Request-Timeout-Ms can say
_GRACE_SECONDS = 1.0
"""How much longer than its deadline a server is listened to: its own word for what happened is the better one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; the answer is an `httpx.Response`, read, or the `httpx.RequestError` that came instead.

    `arguments` are those of `request` of either client of httpx.
    """

    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """Call a function that may block; the answer is its result."""

    function: Callable[[], Any]


Step = Send | Wait | Run
Flow = Generator[Step, Any, Result]


@dataclass(frozen=True, slots=True)
class Flows:
    """The flows of one client: `timeout` is that of calls without one, in seconds."""

    address: str
    timeout: float
    retries: Retries

    def tokenize(self, sources: Source | Iterable[Source], options: Options) -> Flow[list[Tokens]]:
        """All, or the error."""
        parts = yield from _parts(listed(sources))
        outcomes = yield from self.exchange(calls.tokenize(parts, options, partial=False))
        tokens = []
        for outcome in outcomes:
            if isinstance(outcome, TesseraApiError):
                raise outcome
            tokens.append(outcome)
        return tokens

    def tokenize_partial(
        self, sources: Source | Iterable[Source], options: Options
    ) -> Flow[list[Tokens | TesseraApiError]]:
        """Each, or its error."""
        parts = yield from _parts(listed(sources))
        return (yield from self.exchange(calls.tokenize(parts, options, partial=True)))

    def detokenize(
        self, codes: ArrayLike, model: str | None, dtype: DType, timeout: float | None
    ) -> Flow[NDArray[np.float32]]:
        """The embeddings of codes."""
        return self.exchange(calls.detokenize(codes, model, dtype, timeout))

    def models(self, timeout: float | None) -> Flow[list[Model]]:
        """What is served."""
        return self.exchange(calls.models(timeout))

    def limits(self, timeout: float | None) -> Flow[dict[str, Limit]]:
        """What is taken."""
        return self.exchange(calls.limits(timeout))

    def ready(self, timeout: float | None) -> Flow[bool]:
        """Whether the server says so, at the first try."""
        try:
            return (yield from self.exchange(calls.ready(timeout), Retries(most=0)))
        except (ServerUnavailable, DeadlineExceeded):
            return False

    def exchange(self, call: Call[Result], retries: Retries | None = None) -> Flow[Result]:
        """Send `call` until it is answered or there is no reason left to try; all tries have one request id."""
        retries = retries or self.retries
        request_id = uuid.uuid4().hex
        ends = time.monotonic() + (self.timeout if call.timeout is None else call.timeout)
        attempt = 0
        while True:
            left = ends - time.monotonic()
            reply: httpx.Response | httpx.RequestError = yield _send(call, request_id, left)
            if isinstance(reply, httpx.Response):
                failure = failure_of(reply, request_id)
            else:
                failure = self._unanswered(reply, request_id)
            if failure is None:
                assert isinstance(reply, httpx.Response)
                return call.read(reply)
            wait = retries.wait(failure, attempt, ends - time.monotonic())
            if wait is None:
                raise failure
            yield Wait(wait)
            attempt += 1

    def _unanswered(self, error: httpx.RequestError, request_id: str) -> TesseraApiError:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
                message = f"no server answers at {self.address}"
                fault = Fault(code="unreachable", message=message, retryable=True, request_id=request_id)
                return ServerUnavailable(fault)
            case httpx.TimeoutException():
                message = "the server did not answer within the time of the request"
                return DeadlineExceeded(
                    Fault(code="deadline_exceeded", message=message, retryable=True, request_id=request_id)
                )
            case _:
                # Not sent again: this request may be what ended the server.
                message = f"the connection to {self.address} broke before there was an answer"
                return ServerUnavailable(
                    Fault(code="connection_lost", message=message, request_id=request_id)
                )


def _send(call: Call[Any], request_id: str, left: float) -> Send:
    left = min(max(left, 0.001), _LONGEST_SECONDS)
    patience = left + _GRACE_SECONDS
    return Send(
        {
            "method": call.method,
            "url": call.path,
            "params": dict(call.query) or None,
            "headers": {
                "user-agent": _USER_AGENT,
                "x-request-id": request_id,
                "x-request-timeout-ms": str(round(1000 * left)),
                **call.headers,
            },
            "content": call.content,
            "timeout": httpx.Timeout(patience, connect=min(_CONNECT_SECONDS, patience)),
        }
    )


def _parts(sources: Sequence[Source]) -> Flow[list[Part]]:
    def open_all() -> list[Part]:
        return [opened(source) for source in sources]

    if not any(map(is_file, sources)):
        return open_all()
    parts: list[Part] = yield Run(open_all)
    return parts
