"""POST /tokenize and POST /detokenize."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service.api.answers import engine_of, require_model, stamped
from service.api.bodies import ParsedRequest, content_type, read_json, read_tokenize, validated
from service.contract import DETOKENIZE, TOKENIZE
from service.encoding import Wire, error_document, item_document, usage_document
from service.engine import Engine
from service.errors import ApiError, ClientDisconnected, combined
from service.schemas import DetokenizeOptions
from service.settings import setting_name
from service.trace import Trace
from tessera.codes import Encoding
from tessera.errors import InputError

router = APIRouter(tags=["tokens"])
Result = TypeVar("Result")

_INLINE_SEGMENTS = 512
"""Longer answers are written in a thread, so that they do not hold up the event loop."""


@router.post("/tokenize", **TOKENIZE)
async def tokenize(request: Request) -> Response:
    """Audio, video, texts and features, in any mix, to codes.

    The body is JSON, or `multipart/form-data` with a JSON part `request` and one part per file, given in
    order to the inputs that have no `data`, `text` or `url`; or it is the file itself, with its Content-Type
    and the options in the query: `curl --data-binary @dog.wav -H 'Content-Type: audio/wav' host/tokenize`.
    `Accept: application/msgpack` answers in MessagePack, arrays in binary.
    """
    engine = engine_of(request)
    asked = await read_tokenize(request, engine.settings)
    require_model(engine, asked.options.model)
    trace = Trace.of(request.scope)
    outcomes = await _unless_disconnected(
        request, engine, engine.tokenize(asked.items, asked.options.truncate, trace.timings), len(asked.items)
    )
    engine.metrics.items(outcomes)
    _raise_failures(asked, outcomes)
    wire = Wire.of(request.headers.get("accept", ""), asked.options.encoding_format, asked.options.dtype)
    started = time.perf_counter()
    body = await _written(engine, asked, outcomes, wire, trace.request_id)
    trace.timings.encode = time.perf_counter() - started
    engine.metrics.stages(trace.timings.stages())
    return Response(body, media_type=wire.media_type)


@router.post("/detokenize", **DETOKENIZE)
async def detokenize(request: Request) -> Response:
    """Codes to embeddings: each code's row of the codebook, on the kept channels."""
    engine = engine_of(request)
    if content_type(request) != "application/json":
        raise ApiError("unsupported_content_type", "the body must be application/json", param="Content-Type")
    document = await read_json(request)
    codes = document.pop("codes", None)
    options = validated(DetokenizeOptions, document)
    require_model(engine, options.model)
    try:
        embeddings = engine.tokenizer.detokenize(_code_matrix(codes, engine.settings.max_codes_segments))
    except InputError as error:
        raise ApiError.of_input(error, "codes") from None
    wire = Wire.of(request.headers.get("accept", ""), options.encoding_format, options.dtype)
    fields = {"object": "embeddings", "embeddings": wire.array(embeddings)}
    body = await asyncio.to_thread(wire.render, stamped(engine, "det", fields))
    return Response(body, media_type=wire.media_type)


def _code_matrix(codes: Any, max_segments: int) -> NDArray[np.int64]:
    if not isinstance(codes, list) or not codes:
        raise ApiError(
            "invalid_value", "codes must be a list of segments, each a list of levels", param="codes"
        )
    if len(codes) > max_segments:
        raise ApiError(
            "too_many_segments",
            f"{len(codes)} segments, the limit is {max_segments}",
            param="codes",
            limit=max_segments,
            actual=len(codes),
            setting=setting_name("max_codes_segments"),
        )
    try:
        matrix = np.array(codes)
    except (ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.dtype.kind != "i" or matrix.ndim != 2:
        raise ApiError("invalid_value", "codes must be whole numbers, as many in each segment", param="codes")
    return matrix.astype(np.int64)


def _raise_failures(asked: ParsedRequest, outcomes: Sequence[Encoding | ApiError]) -> None:
    errors = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    if errors and asked.options.on_error == "fail":
        raise combined(errors)


async def _written(
    engine: Engine,
    asked: ParsedRequest,
    outcomes: Sequence[Encoding | ApiError],
    wire: Wire,
    request_id: str,
) -> bytes:
    encodings = [outcome for outcome in outcomes if isinstance(outcome, Encoding)]
    usage = usage_document(encodings)

    def write() -> bytes:
        data = [
            error_document(index, item_id, outcome, request_id)
            if isinstance(outcome, ApiError)
            else item_document(index, item_id, outcome, asked.options.returns, wire)
            for index, (item_id, outcome) in enumerate(zip(asked.ids, outcomes, strict=True))
        ]
        return wire.render(stamped(engine, "tok", {"object": "list", "data": data, "usage": usage}))

    if usage["segments"] <= _INLINE_SEGMENTS:
        return write()
    return await asyncio.to_thread(write)


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
