"""POST /tokenize and POST /detokenize."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service.api.answers import BodyAnswer, engine_of, stamped
from service.api.bodies import ParsedRequest, content_type, read_json, read_tokenize, validated
from service.api.tokenized import tokenized, written
from service.contract import DETOKENIZE, TOKENIZE
from service.encoding import Wire, error_document, item_document, usage_document
from service.errors import ApiError, combined
from service.request import Outcome
from service.schemas import DetokenizeOptions, ReturnField
from service.serving import Served
from service.settings import setting_name
from service.trace import Trace
from tessera.codes import Codes
from tessera.errors import InputError

router = APIRouter(tags=["tokens"])

_OF_CODES: frozenset[ReturnField] = frozenset({"codes", "embeddings", "pooled"})
"""What follows from codes and the codebook; for more the graphs are asked for all that they say."""


@router.post("/tokenize", **TOKENIZE)
async def tokenize(request: Request) -> Response:
    """Audio, video, texts and features, in any mix, to codes.

    The body is JSON, or `multipart/form-data` with a JSON part `request` and one part per file, given in
    order to the inputs that have no `data`, `text` or `url`; or it is the file itself, with its Content-Type
    and the options in the query: `curl --data-binary @dog.wav -H 'Content-Type: audio/wav' host/tokenize`.
    Features of one clip or of many of equal length are sent as they are, as `application/octet-stream`, with
    `modality`, `dtype` and `shape` in the query: `?modality=audio&shape=32,10,128`.
    `Accept: application/msgpack` answers in MessagePack, arrays in binary.
    """
    engine = engine_of(request)
    asked = await read_tokenize(request, engine)
    model = engine.model(asked.options.model)
    full = not _OF_CODES.issuperset(asked.options.returns)
    outcomes = await tokenized(
        request, engine, model, asked.items, truncate=asked.options.truncate, full=full
    )
    _raise_failures(asked, outcomes)
    trace = Trace.of(request.scope)
    wire = Wire.of(trace.header(b"accept"), asked.options.encoding_format, asked.options.dtype)
    render = partial(_render, model, asked, outcomes, wire, trace.request_id)
    body = await written(engine, trace, outcomes, render)
    return BodyAnswer(body, wire.media_type)


@router.post("/detokenize", **DETOKENIZE)
async def detokenize(request: Request) -> Response:
    """Codes to embeddings: each code's row of the codebook, on the kept channels."""
    engine = engine_of(request)
    if content_type(request) != "application/json":
        raise ApiError("unsupported_content_type", "the body must be application/json", param="Content-Type")
    document = await read_json(request, engine.settings)
    codes = document.pop("codes", None)
    options = validated(DetokenizeOptions, document)
    model = engine.model(options.model)
    try:
        embeddings = model.opener.detokenize(_code_matrix(codes, engine.settings.max_codes_segments))
    except InputError as error:
        raise ApiError.of_input(error, "codes") from None
    wire = Wire.of(Trace.of(request.scope).header(b"accept"), options.encoding_format, options.dtype)
    fields = {"object": "embeddings", "embeddings": wire.array(embeddings)}
    body = await asyncio.to_thread(wire.render, stamped(model, "det", fields))
    return BodyAnswer(body, wire.media_type)


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


def _raise_failures(asked: ParsedRequest, outcomes: Sequence[Outcome]) -> None:
    errors = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    if errors and asked.options.on_error == "fail":
        raise combined(errors)


def _render(
    model: Served, asked: ParsedRequest, outcomes: Sequence[Outcome], wire: Wire, request_id: str
) -> bytes:
    data = [
        error_document(index, item_id, outcome, request_id)
        if isinstance(outcome, ApiError)
        else item_document(index, item_id, outcome, asked.options.returns, wire, model.opener)
        for index, (item_id, outcome) in enumerate(zip(asked.ids, outcomes, strict=True))
    ]
    usage = usage_document([outcome for outcome in outcomes if isinstance(outcome, Codes)])
    return wire.render(stamped(model, "tok", {"object": "list", "data": data, "usage": usage}))
