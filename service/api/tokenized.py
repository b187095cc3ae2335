"""What every route that tokenises has in common: its lane and deadline, the client that may leave, metrics, timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fastapi import Request

from service.api.disconnects import unless_disconnected
from service.engine import Engine
from service.errors import ApiError, ClientDisconnected
from service.fair_queue import LANE_WEIGHTS
from service.jobs import Lane
from service.request import Item, Outcome, Terms, clips_of
from service.security.fetcher import Fetcher, has_url
from service.serving import Served
from service.trace import Trace
from tessera.codes import Codes
from tessera.limits import Truncate

_INLINE_SEGMENTS = 2048
"""Longer answers are written in a thread, so that they do not hold up the event loop."""


async def tokenized(
    request: Request,
    engine: Engine,
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
    trace = Trace.of(request.scope)
    trace.model, trace.items = model.name, clips_of(items)
    terms = Terms(truncate, full, _lane(trace), trace.deadline)
    try:
        outcomes = await unless_disconnected(request, _outcomes(request, engine, model, items, terms))
    except ClientDisconnected:
        engine.metrics.failed("cancelled", trace.items)
        raise
    except ApiError as error:
        engine.metrics.refused(error, trace.items)
        raise
    engine.metrics.items(model.name, outcomes)
    return outcomes


async def _outcomes(
    request: Request, engine: Engine, model: Served, items: Sequence[Item | ApiError], terms: Terms
) -> list[Outcome]:
    trace = Trace.of(request.scope)
    if any(map(has_url, items)):
        fetcher: Fetcher = request.app.state.fetcher
        items = await fetcher.fetched(items, trace.hold)
    return await engine.tokenize(model, items, terms, trace.timings)


def _lane(trace: Trace) -> Lane:
    """What the header `X-Priority` asks for.

    Raises:
        ApiError: `invalid_value`.
    """
    if b"x-priority" not in trace.headers:
        return "interactive"
    asked = trace.header(b"x-priority")
    if asked not in LANE_WEIGHTS:
        raise ApiError("invalid_value", "X-Priority must be interactive or bulk", param="X-Priority")
    return asked


async def written(
    engine: Engine, trace: Trace, outcomes: Sequence[Outcome], write: Callable[[], bytes]
) -> bytes:
    """What `write` makes of `outcomes`: the body of the answer."""
    started = time.perf_counter()
    segments = 0
    for outcome in outcomes:
        segments += len(outcome.codes) if isinstance(outcome, Codes) else 0
    body = write() if segments <= _INLINE_SEGMENTS else await asyncio.to_thread(write)
    trace.timings.took("encode", started)
    trace.segments = segments
    engine.metrics.stages(trace.timings)
    return body
