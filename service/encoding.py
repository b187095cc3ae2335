"""Encodings -> the bytes of an answer. Arrays go to orjson, base64 or msgpack, never through pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from service.errors import ApiError
from service.schemas import DType, EncodingFormat, ReturnField
from tessera.codes import Codes, Encoding, pooled
from tessera.opener import ClipOpener

JSON = "application/json"
MSGPACK = "application/msgpack"


@dataclass(frozen=True, slots=True)
class Wire:
    """How one answer is written."""

    media_type: str
    encoding_format: EncodingFormat
    dtype: DType

    @classmethod
    def of(cls, accept: str, encoding_format: EncodingFormat, dtype: DType) -> Wire:
        """The form that the `Accept` header and the options ask for."""
        return cls(MSGPACK if MSGPACK in accept.lower() else JSON, encoding_format, dtype)

    def array(self, values: NDArray[np.float32]) -> dict[str, Any]:
        """An array other than codes, with its shape and how to read it."""
        rounded = np.ascontiguousarray(values, dtype=np.dtype(self.dtype).newbyteorder("<"))
        field: dict[str, Any] = {"encoding": self.encoding_format, "dtype": self.dtype, "shape": values.shape}
        binary = self.media_type == MSGPACK
        if self.encoding_format == "float":
            return field | {"data": rounded.tolist() if binary else rounded}
        raw = rounded.tobytes()
        field |= {"encoding": "binary" if binary else "base64", "byte_order": "little"}
        return field | {"data": raw if binary else pybase64.b64encode_as_string(raw)}

    def render(self, document: dict[str, Any]) -> bytes:
        """The body of the answer."""
        if self.media_type == MSGPACK:
            return msgspec.msgpack.encode(document)
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def item_document(
    index: int,
    item_id: str | None,
    codes: Codes,
    returns: Sequence[ReturnField],
    wire: Wire,
    opener: ClipOpener,
) -> dict[str, Any]:
    """One entry of `data`. Embeddings are looked up in the codebook; margins and latents are those of an `Encoding`."""
    # JSON takes arrays as they are, so that no list is made of them.
    said = codes.to_json() if wire.media_type == MSGPACK else codes.fields()
    document = {"index": index, "id": item_id, **said}
    if "codes" not in returns:
        del document["codes"]
        document.pop("clip_codes", None)
    if returns != ["codes"]:
        arrays = _arrays(codes, returns, opener)
        document |= {name: wire.array(values) for name, values in arrays.items()}
    return document


def _arrays(
    codes: Codes, returns: Sequence[ReturnField], opener: ClipOpener
) -> dict[str, NDArray[np.float32]]:
    """What was asked for beside codes."""
    arrays: dict[str, NDArray[np.float32]] = {}
    if isinstance(codes, Encoding) and "margins" in returns:
        arrays["margins"] = codes.margins
        if codes.clip_margins is not None:
            arrays["clip_margins"] = codes.clip_margins
    if isinstance(codes, Encoding) and "latents" in returns:
        arrays["latents"] = codes.latents
    if "embeddings" in returns or "pooled" in returns:
        embeddings = opener.detokenize(codes.codes)
        if "embeddings" in returns:
            arrays["embeddings"] = embeddings
        if "pooled" in returns:
            arrays["pooled"] = pooled(embeddings)
    return arrays


def error_document(index: int, item_id: str | None, error: ApiError, request_id: str) -> dict[str, Any]:
    """What stands in place of an entry of `data` whose input failed."""
    return {"index": index, "id": item_id, "error": error.document(request_id)}


def usage_document(tokenized: Sequence[Codes]) -> dict[str, Any]:
    """What was tokenised in all."""
    return {
        "items": len(tokenized),
        "segments": sum(len(clip.codes) for clip in tokenized),
        "media_seconds": sum(clip.duration_sec or 0.0 for clip in tokenized),
    }
