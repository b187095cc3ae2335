"""The three bodies of POST /tokenize - JSON, multipart, raw - read into the same parsed request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.api.json_document import parse_json
from service.engine import Engine
from service.errors import ApiError, ClientDisconnected
from service.inputs import array_of, parse_input
from service.ready import FeatureArray
from service.request import Item
from service.schemas import FeaturesQuery, RawQuery, TokenizeOptions
from service.settings import Settings, setting_name
from service.trace import Trace
from service.validation import faults
from tessera.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

FEATURES = "application/octet-stream"
"""The media type of a body that is an array of features."""

_FEATURES = FEATURES.encode()

_REMEMBERED_BYTES = 1024
"""Of queries; longer ones are not kept."""

_INLINE_BYTES = 64 * 1024
"""Smaller JSON is parsed sooner than a thread is woken; larger would hold up the event loop."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What POST /tokenize was asked: each input, or what is wrong with it; and the id of each clip."""

    options: TokenizeOptions
    items: list[Item | ApiError]
    ids: list[str | None]


async def read_tokenize(request: Request, engine: Engine) -> ParsedRequest:
    """The request, whatever its Content-Type.

    Raises:
        ApiError: the body as a whole cannot be read; a fault of one input is in `items` instead.
    """
    kind = content_type(request)
    if kind == "application/json":
        return _parsed(await read_json(request, engine.settings), engine.settings, files=[])
    if kind == "multipart/form-data":
        return await _read_multipart(request, engine.settings)
    if kind == FEATURES:
        return _features(request, engine, await read_body(request))
    return _raw(request, kind, await read_body(request))


def content_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    header = Trace.of(request.scope).headers.get(b"content-type", b"")
    return FEATURES if header == _FEATURES else header.decode("latin-1").partition(";")[0].strip().lower()


async def read_body(request: Request) -> bytes:
    """The whole body; its size is bounded on the way in.

    Raises:
        ClientDisconnected: it will never be whole.
    """
    parts = []
    while (message := await request.receive())["type"] != "http.disconnect":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise ClientDisconnected


async def read_json(request: Request, settings: Settings) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        ApiError: `malformed_body` or `body_too_large`.
    """
    body = await read_body(request)
    if len(body) < _INLINE_BYTES:
        return parse_json(body, settings.max_json_values, settings.max_json_depth)
    return await asyncio.to_thread(parse_json, body, settings.max_json_values, settings.max_json_depth)


def validated(model: type[Model], document: Any, *, strict: bool = True) -> Model:
    """`document` as a `model`.

    Raises:
        ApiError: `invalid_value`, naming the first fault.
    """
    try:
        return model.model_validate(document, strict=strict)
    except ValidationError as error:
        fault = faults(error)[0]
        raise ApiError(
            "invalid_value", f"{fault.param} {fault.sentence}".strip(), param=fault.param
        ) from None


def _parsed(document: dict[str, Any], settings: Settings, files: list[bytes]) -> ParsedRequest:
    inputs = document.pop("inputs", None)
    options = validated(TokenizeOptions, document)
    if not isinstance(inputs, list) or not inputs:
        raise ApiError("invalid_value", "inputs must be a list of at least one input", param="inputs")
    require_few(len(inputs), settings)
    _attach(files, inputs)
    items: list[Item | ApiError] = [parse_input(entry) for entry in inputs]
    ids = [
        item.id if isinstance(item, BaseModel) else _id(entry)
        for entry, item in zip(inputs, items, strict=True)
    ]
    return ParsedRequest(options, items, ids)


def require_few(count: int, settings: Settings, param: str = "inputs") -> None:
    """Bound the inputs of one request.

    Raises:
        ApiError: `too_many_inputs`.
    """
    if count > settings.max_inputs:
        raise ApiError(
            "too_many_inputs",
            f"{count} inputs, the limit is {settings.max_inputs}",
            param=param,
            limit=settings.max_inputs,
            actual=count,
            setting=setting_name("max_inputs"),
        )


def _attach(files: list[bytes], inputs: Iterable[Any]) -> None:
    """Give the files of a multipart body, in order, to the inputs that bring no content of their own."""
    waiting = [
        entry for entry in inputs if isinstance(entry, dict) and not {"data", "text", "url"} & entry.keys()
    ]
    if files and len(files) != len(waiting):
        raise ApiError(
            "invalid_value",
            f"{len(files)} file parts for {len(waiting)} inputs without data, text or url",
            param="inputs",
        )
    for entry, content in zip(waiting, files, strict=False):
        is_text = entry.get("type") == "text"
        entry["text" if is_text else "data"] = _utf8(content) if is_text else content


def _id(entry: Any) -> str | None:
    """The id of an input that is otherwise wrong, when it is one that can be sent back."""
    value = entry.get("id") if isinstance(entry, dict) else None
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 256 else None


class _InMemory(MultiPartParser):
    """File parts stay in memory, where the body limit bounds them; nothing of a client is written to disk."""

    spool_max_size = 2**62

    def __init__(self, request: Request, settings: Settings) -> None:
        self._parts = 0
        self._most = settings.max_parts
        super().__init__(
            request.headers,
            request.stream(),
            max_files=self._most,
            max_fields=1,
            max_part_size=settings.max_body_bytes,
        )

    def on_part_begin(self) -> None:
        """As starlette's, but counted."""
        self._parts += 1
        if self._parts > self._most:
            raise ApiError(
                "body_too_large",
                f"{self._parts} parts or more in the body, the limit is {self._most}",
                limit=self._most,
                actual=self._parts,
                setting=setting_name("max_parts"),
            )
        super().on_part_begin()


async def _read_multipart(request: Request, settings: Settings) -> ParsedRequest:
    parser = _InMemory(request, settings)
    try:
        form = await parser.parse()
    except ClientDisconnect:
        raise ClientDisconnected from None
    except (MultiPartException, KeyError, ValueError):
        raise ApiError("malformed_body", "the body is not well-formed multipart/form-data") from None
    parts = [(name, await _part_bytes(part)) for name, part in form.multi_items()]
    documents = [content for name, content in parts if name == "request"]
    if len(documents) != 1:
        raise ApiError("invalid_value", "a multipart body has one part `request`, in JSON", param="request")
    document = parse_json(documents[0], settings.max_json_values, settings.max_json_depth)
    return _parsed(document, settings, [content for name, content in parts if name != "request"])


async def _part_bytes(part: UploadFile | str) -> bytes:
    return part.encode() if isinstance(part, str) else await part.read()


def _raw(request: Request, kind: str, body: bytes) -> ParsedRequest:
    """A body that is the file itself; the query has the options."""
    entry: dict[str, Any]
    match kind.partition("/")[0], kind:
        case "audio" | "video" as media, _:
            entry = {"type": media, "data": body}
        case _, "text/plain":
            entry = {"type": "text", "text": _utf8(body)}
        case _:
            raise ApiError(
                "unsupported_content_type",
                "name what the body is: Content-Type audio/*, video/*, text/plain, application/json, "
                "multipart/form-data, or application/octet-stream for features; with curl: "
                "-H 'Content-Type: audio/wav'",
                param="Content-Type",
            )
    query = validated(RawQuery, _query(request.query_params), strict=False)
    item = parse_input(entry | query.input_fields)
    return ParsedRequest(query.options, [item], [query.id])


def _features(request: Request, engine: Engine, body: bytes) -> ParsedRequest:
    """A body that is an array of features, of one clip or of several; the query says which."""
    text: bytes = request.scope["query_string"]
    read = _features_query if len(text) <= _REMEMBERED_BYTES else _features_query.__wrapped__
    query, options = read(text)
    values = array_of(body, query.dtype, query.shape, "the body")
    opener = engine.model(query.model).opener
    try:
        if opener.is_one_clip(query.modality, values.ndim):
            values = values[None]
    except InputError as error:
        raise ApiError.of_input(error, "modality") from None
    require_few(len(values), engine.settings, "shape")
    return ParsedRequest(options, [FeatureArray(query.modality, values)], [None] * len(values))


@lru_cache(maxsize=256)
def _features_query(text: bytes) -> tuple[FeaturesQuery, TokenizeOptions]:
    """A query and its options; clients send the same one again and again."""
    document = _query(QueryParams(text))
    document["shape"] = [part for part in document.get("shape", "").split(",") if part]
    query = validated(FeaturesQuery, document, strict=False)
    return query, query.options


def _query(params: QueryParams) -> dict[str, Any]:
    """The query by name; `return` is a list, comma-separated or repeated."""
    query: dict[str, Any] = dict(params)
    if "return" in query:
        query["return"] = ",".join(params.getlist("return")).split(",")
    return query


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ApiError("malformed_body", "the text is not UTF-8") from None
