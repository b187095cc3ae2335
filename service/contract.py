"""The OpenAPI document: what the routes take and answer, as schemas. No request passes through here."""

from __future__ import annotations

from typing import Any, Literal, get_args

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from service.errors import CATALOGUE, ErrorCode, ErrorType
from service.jobs import Lane
from service.schemas import (
    DetokenizeRequest,
    DType,
    EmbeddingsRequest,
    FeaturesQuery,
    RawQuery,
    TokenizeRequest,
)
from service.security.keys import KeyScope
from service.security.scopes import OPEN, scopes_of
from tessera.windows import Modality

API_VERSION = "1.0.0"
_REF = "#/components/schemas/{model}"


class ErrorBody(BaseModel):
    """What went wrong. `retryable` says whether the same request may succeed later."""

    code: ErrorCode
    type: ErrorType
    message: str
    param: str | None = Field(description="The field at fault.")
    limit: float | None
    actual: float | None
    setting: str | None = Field(description="The setting that moves `limit`.")
    retryable: bool
    request_id: str


class ErrorEnvelope(BaseModel):
    """The body of every answer that is not 2xx."""

    error: ErrorBody


class Array(BaseModel):
    """An array other than codes. `binary` is what MessagePack has in place of base64."""

    encoding: Literal["base64", "float", "binary"]
    dtype: DType
    byte_order: Literal["little"] | None = Field(None, description="Of base64 and binary.")
    shape: list[int]
    data: str | list[Any]


class Segments(BaseModel):
    """The time axis; words of a text have no times, so `hop_sec` is null."""

    count: int
    hop_sec: float | None
    start_sec: float


class Tokens(BaseModel):
    """The answer for one input; in a partial answer, with `error` in place of the rest."""

    index: int
    id: str | None
    modality: Modality | None = None
    duration_sec: float | None = None
    truncated: bool | None = None
    segments: Segments | None = None
    codes: list[list[int]] | None = Field(None, description="codes[segment][level]")
    clip_codes: list[int] | None = Field(None, description="clip_codes[level], where the model has them.")
    margins: Array | None = Field(None, description="How sure each code is: [segments, levels].")
    clip_margins: Array | None = Field(None, description="How sure each clip code is: [levels].")
    embeddings: Array | None = Field(
        None, description="The codebook rows of the codes: [segments, channels]."
    )
    latents: Array | None = Field(None, description="The vectors before quantisation: [segments, channels].")
    pooled: Array | None = Field(None, description="The mean embedding: [channels].")
    error: ErrorBody | None = None


class Usage(BaseModel):
    """What was tokenised in all."""

    items: int
    segments: int
    media_seconds: float


class _Stamped(BaseModel):
    id: str
    model: str
    model_revision: str = Field(description="sha256 of the manifest of the bundle.")


class TokenizeResponse(_Stamped):
    """The answer of POST /tokenize, one entry of `data` per input, in order."""

    object: Literal["list"]
    data: list[Tokens]
    usage: Usage


class DetokenizeResponse(_Stamped):
    """The answer of POST /detokenize: [segments, channels]."""

    object: Literal["embeddings"]
    embeddings: Array


class PooledEmbedding(BaseModel):
    """The mean embedding of one input: [channels]."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers; or base64 of float32, little endian.")


class EmbeddingsUsage(BaseModel):
    """Segments, under the names of OpenAI."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(_Stamped):
    """The answer of POST /v1/embeddings, one entry of `data` per input, in order."""

    object: Literal["list"]
    data: list[PooledEmbedding]
    usage: EmbeddingsUsage


class ModelDocument(BaseModel):
    """One model."""

    id: str
    object: Literal["model"]
    model_revision: str
    family: str
    modalities: list[Modality]
    levels: int
    codebook_sizes: list[int]
    embedding_dim: int
    clip_codes: bool
    hop_sec: float
    window_segments: int
    feature_shapes: dict[Modality, list[int]]
    licence: str


class ModelsResponse(_Stamped):
    """The answer of GET /models."""

    object: Literal["list"]
    data: list[ModelDocument]


class OpenAIModelDocument(ModelDocument):
    """One model, with the fields of OpenAI's document."""

    created: int = Field(description="Unix time at which this process began to serve it.")
    owned_by: str


class OpenAIModelsResponse(_Stamped):
    """The answer of GET /v1/models."""

    object: Literal["list"]
    data: list[OpenAIModelDocument]


class LimitDocument(BaseModel):
    """One limit."""

    name: str
    value: float
    unit: str
    setting: str
    description: str


class LimitsResponse(_Stamped):
    """The answer of GET /limits."""

    object: Literal["list"]
    data: list[LimitDocument]


class VersionResponse(_Stamped):
    """The answer of GET /version."""

    object: Literal["version"]
    version: str
    api_version: str
    providers: list[str]


class HealthResponse(_Stamped):
    """The answer of a probe that is content."""

    object: Literal["health"]
    status: Literal["started", "live", "ready"]


def _route(
    answer: type[BaseModel], *statuses: int, forms: dict[str, Any] | None = None, **extra: Any
) -> dict[str, Any]:
    """The keywords of a route that answers `answer` in bytes of its own making; all but probes may want a key."""
    if answer is not HealthResponse:
        statuses = tuple(sorted({*statuses, *_OF_KEYS}))
    failures = {status: {"model": ErrorEnvelope, "description": _codes_of(status)} for status in statuses}
    return {
        "response_class": Response,
        "response_model": None,
        "responses": {
            200: {"model": answer, "description": answer.__doc__, "content": forms or {}},
            **failures,
        },
        "openapi_extra": extra,
    }


_OF_KEYS = (401, 403, 429)


def _codes_of(status: int) -> str:
    return "; ".join(f"`{code}`: {spec.meaning}" for code, spec in CATALOGUE.items() if spec.status == status)


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _body(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def _query_parameters() -> list[dict[str, Any]]:
    raw, features = (
        query.model_json_schema(ref_template=_REF)["properties"] for query in (RawQuery, FeaturesQuery)
    )
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": schema,
            "description": _OF_RAW if name in raw else _OF_FEATURES,
            **({"style": "form", "explode": False} if schema.get("type") == "array" else {}),
        }
        for name, schema in {**features, **raw}.items()
    ]


_OF_RAW = "Of a raw body only; JSON and multipart bodies say it themselves."
_OF_FEATURES = "Of a body of features, which must have it."
_BINARY = {"type": "string", "format": "binary"}
_MSGPACK = {"application/msgpack": {"schema": _BINARY}}
_HEADERS = [
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        "description": "Answer within this time, or `deadline_exceeded`.",
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 128},
        "description": "Comes back with the answer; without, one is made.",
    },
]
_PRIORITY = {
    "name": "X-Priority",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": list(get_args(Lane)), "default": "interactive"},
    "description": "`bulk` takes what others leave of the device, and a little always.",
}

TOKENIZE = _route(
    TokenizeResponse,
    *(400, 403, 404, 413, 415, 422, 500, 503, 504),
    forms=_MSGPACK,
    parameters=[*_query_parameters(), *_HEADERS, _PRIORITY],
    requestBody=_body(
        {
            "application/json": _ref(TokenizeRequest),
            "multipart/form-data": {
                "type": "object",
                "properties": {"request": _ref(TokenizeRequest)},
                "required": ["request"],
                "additionalProperties": _BINARY,
            },
            "audio/*": _BINARY,
            "video/*": _BINARY,
            "text/plain": {"type": "string"},
            "application/octet-stream": _BINARY,
        }
    ),
)
DETOKENIZE = _route(
    DetokenizeResponse,
    *(400, 404, 413, 415, 422, 500, 503, 504),
    forms=_MSGPACK,
    parameters=_HEADERS,
    requestBody=_body({"application/json": _ref(DetokenizeRequest)}),
)
EMBEDDINGS = _route(
    EmbeddingsResponse,
    *(400, 403, 404, 413, 415, 422, 500, 503, 504),
    parameters=_HEADERS,
    requestBody=_body({"application/json": _ref(EmbeddingsRequest)}),
)
_ANY = (400, 422, 500, 503, 504)
"""What any request may be told: of its head and its headers, of a server that is full or ends, of its time."""

OPENAI_MODELS = _route(OpenAIModelsResponse, *_ANY)
OPENAI_MODEL = _route(OpenAIModelDocument, 404, *_ANY)
MODELS = _route(ModelsResponse, *_ANY)
LIMITS = _route(LimitsResponse, *_ANY)
VERSION = _route(VersionResponse, *_ANY)
HEALTH = _route(HealthResponse, *_ANY)


_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Where the server has keys: `tsr_...`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


def _security(method: str, path: str) -> list[dict[str, list[KeyScope]]]:
    """Either way to send a key that has the scopes; none for what is open."""
    if (method, path) in OPEN:
        return []
    scopes = sorted(scopes_of(method, path))
    return [{way: scopes} for way in _KEYS]


def document_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application, with the schemas of the bodies that routes read by hand."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        read_by_hand = (TokenizeRequest, DetokenizeRequest, EmbeddingsRequest)
        _, bodies = models_json_schema([(body, "validation") for body in read_by_hand], ref_template=_REF)
        document["components"]["schemas"] |= bodies["$defs"]
        document["components"]["securitySchemes"] = _KEYS
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["security"] = _security(method.upper(), path)
        app.openapi_schema = document
    return app.openapi_schema
