"""POST /v1/embeddings and GET /v1/models: what clients of OpenAI's interface ask for, of any modality."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import orjson
import pybase64
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service.api.answers import BodyAnswer, engine_of, json_answer, stamped
from service.api.bodies import content_type, read_json, require_few, validated
from service.api.models import model_document
from service.api.tokenized import tokenized, written
from service.contract import EMBEDDINGS, OPENAI_MODEL, OPENAI_MODELS
from service.errors import ApiError, combined
from service.inputs import parse_input
from service.schemas import EmbeddingsOptions, EncodingFormat, Input
from service.serving import Served
from service.trace import Trace
from tessera.codes import Codes, pooled
from tessera.windows import Modality

router = APIRouter(prefix="/v1", tags=["openai"])

_SERVED_SINCE = int(time.time())


@router.post("/embeddings", **EMBEDDINGS)
async def embeddings(request: Request) -> Response:
    """The mean embedding of each text, or with `modality` of each sound or film, in the form of OpenAI.

    `client.embeddings.create(model=..., input=[data_url], extra_body={"modality": "audio"})` of the `openai`
    package sends a sound. `usage` counts segments.
    """
    engine = engine_of(request)
    if content_type(request) != "application/json":
        raise ApiError("unsupported_content_type", "the body must be application/json", param="Content-Type")
    document = await read_json(request, engine.settings)
    sources = document.pop("input", None)
    options = validated(EmbeddingsOptions, document)
    model = engine.model(options.model)
    _require_width(model, options.dimensions)
    texts = _texts(sources)
    require_few(len(texts), engine.settings, "input")
    items = [_item(text, options.modality) for text in texts]
    outcomes = await tokenized(request, engine, model, items, full=False)
    clips = [outcome for outcome in outcomes if isinstance(outcome, Codes)]
    if len(clips) < len(outcomes):
        raise combined(
            [
                _renamed(outcome, index, alone=isinstance(sources, str))
                for index, outcome in enumerate(outcomes)
                if isinstance(outcome, ApiError)
            ]
        )
    render = partial(_render, model, clips, options.encoding_format)
    body = await written(engine, Trace.of(request.scope), outcomes, render)
    return BodyAnswer(body, "application/json")


@router.get("/models", **OPENAI_MODELS)
async def openai_models(request: Request) -> Response:
    """What is served, in the form of OpenAI: the document of /models, with an owner and a time."""
    engine = engine_of(request)
    fields = {"object": "list", "data": [_openai_model(model) for model in engine.models.values()]}
    return json_answer(stamped(engine.default, "mod", fields))


@router.get("/models/{name}", **OPENAI_MODEL)
async def openai_model(request: Request, name: str) -> Response:
    """One model, in the form of OpenAI."""
    return json_answer(_openai_model(engine_of(request).model(name)))


def _openai_model(model: Served) -> dict[str, Any]:
    return model_document(model) | {"created": _SERVED_SINCE, "owned_by": "tessera"}


def _require_width(model: Served, dimensions: int | None) -> None:
    width = model.opener.manifest.kept_total
    if dimensions not in (None, width):
        raise ApiError(
            "invalid_value", f"dimensions must be {width}, the width of this model", param="dimensions"
        )


def _texts(sources: Any) -> list[str]:
    texts = [sources] if isinstance(sources, str) else sources
    if isinstance(texts, list) and texts:
        if all(isinstance(text, str) for text in texts):
            return texts
        if all(isinstance(entry, int | list) for entry in texts):
            raise ApiError(
                "invalid_value", "token ids are not read here; send the text itself", param="input"
            )
    raise ApiError("invalid_value", "input must be a string or a list of at least one string", param="input")


def _item(text: str, modality: Modality) -> Input | ApiError:
    if modality == "text":
        return parse_input({"type": "text", "text": text})
    scheme, _, rest = text.partition(":")
    if scheme in ("http", "https"):
        return parse_input({"type": modality, "url": text})
    if scheme != "data":
        return parse_input({"type": modality, "data": text})
    head, _, data = rest.partition(",")
    if not head.endswith(";base64"):
        return ApiError("invalid_value", "a data URL must be in base64: data:audio/wav;base64,...")
    return parse_input({"type": modality, "data": data})


def _renamed(error: ApiError, index: int, *, alone: bool) -> ApiError:
    """What the engine says of `inputs[index]`, said of OpenAI's field."""
    sentence = error.message.removeprefix(f"inputs[{index}]: ")
    place = "input" if alone else f"input[{index}]"
    return ApiError(
        error.code,
        f"{place}: {sentence}",
        param=place,
        limit=error.limit,
        actual=error.actual,
        setting=error.setting,
    )


def _render(model: Served, clips: list[Codes], encoding_format: EncodingFormat) -> bytes:
    segments = sum(len(clip.codes) for clip in clips)
    vectors = (pooled(model.opener.detokenize(clip.codes)) for clip in clips)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": segments, "total_tokens": segments}
    document = stamped(model, "emb", {"object": "list", "data": data, "usage": usage})
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _written(vector: NDArray[np.float32], encoding_format: EncodingFormat) -> Any:
    if encoding_format == "float":
        return np.ascontiguousarray(vector)
    return pybase64.b64encode_as_string(vector.astype("<f4").tobytes())
