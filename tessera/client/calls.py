"""What is sent: the method, path, headers and body of each request, without a transport."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.client.answers import (
    MSGPACK,
    Limit,
    Model,
    Tokens,
    read_detokenized,
    read_limits,
    read_models,
    read_ready,
    read_tokenized,
)
from tessera.client.errors import TesseraApiError
from tessera.client.sources import Part
from tessera.limits import Truncate

Result = TypeVar("Result", covariant=True)
Priority = Literal["interactive", "bulk"]
DType = Literal["float16", "float32"]
Extra = Literal["margins", "embeddings", "latents", "pooled"]

_JSON = {"content-type": "application/json"}


class TokenizeOptions(TypedDict, total=False):
    """Keywords of the methods that tokenise.

    returns:   what comes back beside the codes: margins, embeddings, latents, pooled
    dtype:     the precision in which they travel; they are float32 here
    truncate:  of an input that is too long, drop nothing (an error), start or end
    model:     the model that must answer; without, the server's first
    timeout:   seconds for everything, tries and waits together; without, the client's
    priority:  "bulk" work waits for "interactive" work
    """

    returns: Sequence[Extra]
    dtype: DType
    truncate: Truncate
    model: str | None
    timeout: float | None
    priority: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The values of `TokenizeOptions`."""

    returns: Sequence[Extra] = ()
    dtype: DType = "float32"
    truncate: Truncate = "none"
    model: str | None = None
    timeout: float | None = None
    priority: Priority = "interactive"

    def document(self, *, partial: bool) -> dict[str, Any]:
        """The options in the words of the contract."""
        document: dict[str, Any] = {"return": ["codes", *self.returns]}
        if self.returns:
            document["dtype"] = self.dtype
        if self.truncate != "none":
            document["truncate"] = self.truncate
        if self.model is not None:
            document["model"] = self.model
        return document | ({"on_error": "partial"} if partial else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Result]):
    """One request, and how its answer is read. It may be sent several times."""

    path: str
    read: Callable[[httpx.Response], Result]
    method: Literal["GET", "POST"] = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    timeout: float | None = None


def tokenize(
    parts: Sequence[Part], options: Options, *, partial: bool
) -> Call[list[Tokens | TesseraApiError]]:
    """POST /tokenize: the raw body for one file, multipart where several parts are binary, JSON for texts alone."""
    document = options.document(partial=partial)
    query: dict[str, str] = {}
    if len(parts) == 1 and parts[0].fields["type"] in ("audio", "video"):
        query, headers, content = _raw(parts[0], document)
    elif any(part.content is not None for part in parts):
        headers, content = _multipart(parts, document)
    else:
        headers, content = _JSON, _json(document | {"inputs": [part.fields for part in parts]})
    bulk = {"x-priority": "bulk"} if options.priority == "bulk" else {}
    return Call(
        method="POST",
        path="/tokenize",
        query=query,
        headers={**headers, **bulk, "accept": MSGPACK},
        content=content,
        read=read_tokenized,
        timeout=options.timeout,
    )


def detokenize(
    codes: ArrayLike, model: str | None, dtype: DType, timeout: float | None
) -> Call[NDArray[np.float32]]:
    """POST /detokenize."""
    document: dict[str, Any] = {"codes": np.asarray(codes).tolist(), "dtype": dtype}
    if model is not None:
        document["model"] = model
    return Call(
        method="POST",
        path="/detokenize",
        headers={**_JSON, "accept": MSGPACK},
        content=_json(document),
        read=read_detokenized,
        timeout=timeout,
    )


def models(timeout: float | None) -> Call[list[Model]]:
    """GET /models."""
    return Call(path="/models", read=read_models, timeout=timeout)


def limits(timeout: float | None) -> Call[dict[str, Limit]]:
    """GET /limits."""
    return Call(path="/limits", read=read_limits, timeout=timeout)


def ready(timeout: float | None) -> Call[bool]:
    """GET /health/ready."""
    return Call(path="/health/ready", read=read_ready, timeout=timeout)


def _raw(part: Part, document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str], bytes | None]:
    fields = {name: str(value) for name, value in part.fields.items() if name != "type"}
    words = {
        name: ",".join(value) if isinstance(value, list) else str(value) for name, value in document.items()
    }
    # The server tells the container by its content; the header says whether picture or sound is wanted.
    return {**fields, **words}, {"content-type": f"{part.fields['type']}/octet-stream"}, part.content


def _multipart(parts: Sequence[Part], document: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    whole = _json({**document, "inputs": [part.fields for part in parts]})
    files = [("file", part.content) for part in parts if part.content is not None]
    request = httpx.Request("POST", "http://tessera", files=[("request", (None, whole)), *files])
    return {"content-type": request.headers["content-type"]}, request.read()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
