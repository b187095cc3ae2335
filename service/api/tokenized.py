"""What every route that tokenises has in common: its lane and deadline, the client that may leave, metrics, timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fastapi import Request

from service.api.answers import engine_of
from service.api.disconnects import unless_disconnected
from service.engine import Item, Outcome, Terms
from service.errors import ApiError, ClientDisconnected
from service.fair_queue import LANE_WEIGHTS
from service.jobs import Lane
from service.serving import Served
from service.trace import Trace
from tessera.codes import Codes
from tessera.limits import Truncate

_INLINE_SEGMENTS = 2048
"""Longer answers are written in a thread, so that they do not hold up the event loop."""


async def tokenized(
    request: Request,
    model: Served,
    items: Sequence[Item | ApiError],
    *,
    truncate: Truncate = "none",
    full: bool = True,
) -> list[Outcome]:
    """What became of each clip; counted, timed, and dropped when the client goes away. Without `full`, codes alone.

    Raises:
        ApiError: the request is not admitted, or a header is wrong.
        ClientDisconnected: nobody waits for the answer.
    """
    engine, trace = engine_of(request), Trace.of(request.scope)
    terms = Terms(truncate, full, lane_of(request), trace.deadline)
    try:
        outcomes = await unless_disconnected(request, engine.tokenize(model, items, terms, trace.timings))
    except ClientDisconnected:
        engine.metrics.failed("cancelled", len(items))
        raise
    engine.metrics.items(model.name, outcomes)
    return outcomes


def lane_of(request: Request) -> Lane:
    """What the header `X-Priority` asks for.

    Raises:
        ApiError: `invalid_value`.
    """
    asked = Trace.of(request.scope).header(b"x-priority", "interactive")
    if asked not in LANE_WEIGHTS:
        raise ApiError("invalid_value", "X-Priority must be interactive or bulk", param="X-Priority")
    return asked


async def written(request: Request, outcomes: Sequence[Outcome], write: Callable[[], bytes]) -> bytes:
    """What `write` makes of `outcomes`: the body of the answer."""
    timings = Trace.of(request.scope).timings
    started = time.perf_counter()
    segments = sum(len(outcome.codes) for outcome in outcomes if isinstance(outcome, Codes))
    body = write() if segments <= _INLINE_SEGMENTS else await asyncio.to_thread(write)
    timings.encode = time.perf_counter() - started
    engine_of(request).metrics.stages(timings.stages())
    return body
