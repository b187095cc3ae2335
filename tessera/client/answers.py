"""What a server answers -> results and errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from tessera.client.errors import (
    Fault,
    RequestRefused,
    ServerFault,
    ServerUnavailable,
    TesseraApiError,
    UnexpectedAnswer,
    error_of_status,
)
from tessera.client.retries import seconds_of
from tessera.codes import Codes
from tessera.windows import Modality

MSGPACK = "application/msgpack"
Document = TypeVar("Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Codes):
    """Codes, and what else was asked for; `N` segments, `L` levels, `Q` kept channels in all levels together."""

    margins: NDArray[np.float32] | None = None  # [N, L]
    clip_margins: NDArray[np.float32] | None = None  # [L]
    embeddings: NDArray[np.float32] | None = None  # [N, Q]
    latents: NDArray[np.float32] | None = None  # [N, Q]
    pooled: NDArray[np.float32] | None = None  # [Q]


class Model(Struct, frozen=True, kw_only=True):
    """One model of a server."""

    id: str
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


class Limit(Struct, frozen=True, kw_only=True):
    """One limit of a server, and the setting that moves it."""

    name: str
    value: float
    unit: str
    setting: str
    description: str


class _Array(Struct):
    dtype: Literal["float16", "float32"]
    shape: list[int]
    data: bytes  # in JSON, base64

    def values(self) -> NDArray[np.float32]:
        raw = np.frombuffer(self.data, np.dtype(self.dtype).newbyteorder("<"))
        return raw.reshape(self.shape).astype(np.float32)


class _Error(Struct):
    code: str
    message: str
    type: str = ""
    param: str | None = None
    limit: float | None = None
    actual: float | None = None
    setting: str | None = None
    retryable: bool = False
    request_id: str = ""


class _Envelope(Struct):
    error: _Error


class _Segments(Struct):
    hop_sec: float | None
    start_sec: float


class _Item(Struct):
    index: int
    error: _Error | UnsetType = UNSET
    modality: Modality = "text"
    duration_sec: float | None = None
    truncated: bool = False
    segments: _Segments | UnsetType = UNSET
    codes: list[list[int]] | UnsetType = UNSET
    clip_codes: list[int] | None = None
    margins: _Array | None = None
    clip_margins: _Array | None = None
    embeddings: _Array | None = None
    latents: _Array | None = None
    pooled: _Array | None = None


class _Tokenized(Struct):
    data: list[_Item]


class _Detokenized(Struct):
    embeddings: _Array


class _Ready(Struct):
    status: Literal["ready"]


class _Models(Struct):
    data: list[Model]


class _Limits(Struct):
    data: list[Limit]


class _Form(Generic[Document]):
    """Reads one kind of document.

    All are made at import: msgspec 0.22 crashes the process when threads meet in the first reading of a kind.
    """

    def __init__(self, kind: type[Document]) -> None:
        self._msgpack = msgspec.msgpack.Decoder(kind)
        self._json = msgspec.json.Decoder(kind)

    def of(self, reply: httpx.Response) -> Document:
        """The document of `reply`.

        Raises:
            msgspec.DecodeError: it is not of this kind.
        """
        packed = reply.headers.get("content-type", "").startswith(MSGPACK)
        return (self._msgpack if packed else self._json).decode(reply.content)

    def expected(self, reply: httpx.Response) -> Document:
        """The document of a `reply` that has to be of this kind."""
        try:
            return self.of(reply)
        except msgspec.DecodeError:
            raise UnexpectedAnswer(_stranger(reply)) from None


_ENVELOPE = _Form(_Envelope)
_TOKENIZED = _Form(_Tokenized)
_DETOKENIZED = _Form(_Detokenized)
_READY = _Form(_Ready)
_MODELS = _Form(_Models)
_LIMITS = _Form(_Limits)


def failure_of(reply: httpx.Response, request_id: str) -> TesseraApiError | None:
    """Why `reply` is no answer, or None if it is one."""
    if reply.is_success:
        return None
    try:
        fault = _fault(_ENVELOPE.of(reply).error)
    except msgspec.DecodeError:
        fault = _stranger(reply)
    fault = replace(
        fault,
        request_id=fault.request_id or request_id,
        status=reply.status_code,
        retry_after=seconds_of(reply.headers.get("retry-after"), datetime.now(UTC)),
    )
    return error_of_status(reply.status_code, fault)


def read_tokenized(reply: httpx.Response) -> list[Tokens | TesseraApiError]:
    """The entries of `data` of POST /tokenize, in order."""
    document = _TOKENIZED.expected(reply)
    try:
        return [_outcome(item) for item in document.data]
    except ValueError:  # an array that contradicts its shape
        raise UnexpectedAnswer(_stranger(reply)) from None


def read_detokenized(reply: httpx.Response) -> NDArray[np.float32]:
    """The embeddings of POST /detokenize."""
    document = _DETOKENIZED.expected(reply)
    try:
        return document.embeddings.values()
    except ValueError:
        raise UnexpectedAnswer(_stranger(reply)) from None


def read_ready(reply: httpx.Response) -> bool:
    """The answer of GET /health/ready, which has no other content."""
    return _READY.expected(reply).status == "ready"


def read_models(reply: httpx.Response) -> list[Model]:
    """The answer of GET /models."""
    return _MODELS.expected(reply).data


def read_limits(reply: httpx.Response) -> dict[str, Limit]:
    """The answer of GET /limits, by name."""
    return {limit.name: limit for limit in _LIMITS.expected(reply).data}


def _outcome(item: _Item) -> Tokens | TesseraApiError:
    if not isinstance(item.error, UnsetType):
        return _item_error(item.index, item.error)
    if isinstance(item.codes, UnsetType) or isinstance(item.segments, UnsetType):
        raise ValueError("an entry has neither codes nor an error")
    levels = len(item.codes[0]) if item.codes else 0
    return Tokens(
        modality=item.modality,
        codes=np.array(item.codes, np.int64).reshape(len(item.codes), levels),
        clip_codes=None if item.clip_codes is None else np.array(item.clip_codes, np.int64),
        duration_sec=item.duration_sec,
        start_sec=item.segments.start_sec,
        hop_sec=item.segments.hop_sec,
        truncated=item.truncated,
        **{
            name: None if array is None else array.values()
            for name in ("margins", "clip_margins", "embeddings", "latents", "pooled")
            for array in [getattr(item, name)]
        },
    )


def _item_error(index: int, error: _Error) -> TesseraApiError:
    """The error in the place of an input; it need not name that place again."""
    place = f"inputs[{index}]"
    fault = replace(
        _fault(error),
        message=error.message.removeprefix(f"{place}: "),
        param=(error.param or "").removeprefix(place).removeprefix(".") or None,
    )
    if error.type != "server_error":
        return RequestRefused(fault)
    return ServerUnavailable(fault) if error.retryable else ServerFault(fault)


def _fault(error: _Error) -> Fault:
    fields = msgspec.structs.asdict(error)
    del fields["type"]
    return Fault(**fields)


def _stranger(reply: httpx.Response) -> Fault:
    return Fault(
        code="unexpected_answer",
        message=f"HTTP {reply.status_code}, and not in the form of a Tessera server: is the address right?",
        request_id=reply.headers.get("x-request-id", ""),
        status=reply.status_code,
    )
