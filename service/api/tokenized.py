"""What every route that tokenises has in common: the model, the client that may leave, metrics and timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request

from service.api.answers import engine_of, require_model
from service.engine import Engine
from service.errors import ApiError, ClientDisconnected
from service.schemas import Input
from service.trace import Trace
from tessera.codes import Encoding
from tessera.limits import Truncate

Result = TypeVar("Result")
Outcomes = Sequence[Encoding | ApiError]

_INLINE_SEGMENTS = 512
"""Longer answers are written in a thread, so that they do not hold up the event loop."""


async def tokenized(
    request: Request, items: Sequence[Input | ApiError], *, model: str | None, truncate: Truncate = "none"
) -> list[Encoding | ApiError]:
    """Each input's encoding, or its error; counted, timed, and dropped when the client goes away.

    Raises:
        ApiError: `model_not_found`, or the request is not admitted.
        ClientDisconnected: nobody waits for the answer.
    """
    engine = engine_of(request)
    require_model(engine, model)
    work = engine.tokenize(items, truncate, Trace.of(request.scope).timings)
    outcomes = await _unless_disconnected(request, engine, work, len(items))
    engine.metrics.items(outcomes)
    return outcomes


async def written(request: Request, outcomes: Outcomes, write: Callable[[], bytes]) -> bytes:
    """What `write` makes of `outcomes`: the body of the answer."""
    timings = Trace.of(request.scope).timings
    started = time.perf_counter()
    segments = sum(len(outcome.codes) for outcome in outcomes if isinstance(outcome, Encoding))
    body = write() if segments <= _INLINE_SEGMENTS else await asyncio.to_thread(write)
    timings.encode = time.perf_counter() - started
    engine_of(request).metrics.stages(timings.stages())
    return body


async def _unless_disconnected(
    request: Request, engine: Engine, work: Coroutine[Any, Any, Result], items: int
) -> Result:
    """The result of `work`, which is cancelled and dropped from the queue when the client goes away."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        engine.metrics.failed("cancelled", items)
        raise ClientDisconnected
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
