"""What every route that tokenises has in common: its lane and deadline, the client that may leave, metrics, timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from fastapi import Request

from service.api.disconnects import unless_disconnected
from service.engine import Engine, Item, Outcome, Terms, clips_of
from service.errors import ApiError, ClientDisconnected
from service.fair_queue import LANE_WEIGHTS
from service.jobs import Lane
from service.security.fetcher import Fetcher, url_of
from service.serving import Served
from service.trace import Timings, Trace
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
    tokenize = engine.tokenize
    if any(url_of(item) is not None for item in items):
        tokenize = partial(_fetched_and_tokenized, request.app.state.fetcher, engine)
    try:
        outcomes = await unless_disconnected(request, tokenize(model, items, terms, trace.timings))
    except ClientDisconnected:
        engine.metrics.failed("cancelled", trace.items)
        raise
    except ApiError as error:
        engine.metrics.refused(error, trace.items)
        raise
    engine.metrics.items(model.name, outcomes)
    return outcomes


async def _fetched_and_tokenized(
    fetcher: Fetcher,
    engine: Engine,
    model: Served,
    items: Sequence[Item | ApiError],
    terms: Terms,
    timings: Timings,
) -> list[Outcome]:
    async with fetcher.fetched(items) as here:
        return await engine.tokenize(model, here, terms, timings)


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
    ended = time.perf_counter()
    trace.segments = segments
    trace.timings.encode = ended - started
    trace.timings.note("encode", started, ended)
    engine.metrics.stages(trace.timings)
    return body
