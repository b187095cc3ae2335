"""An input of a request -> a clip of the tokenizer. What is here may block: it runs in the decoding pool."""

from __future__ import annotations

import binascii
import math
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import ApiError
from service.schemas import INPUT, AudioInput, FeaturesInput, Input, TextInput, VideoInput
from service.validation import faults
from tessera.clips import Clip
from tessera.limits import Truncate
from tessera.tokenizer import Tokenizer

_LIGHT = 16 * 1024
"""Characters of text or bytes of features that are opened sooner than a thread is woken."""


def parse_input(document: Any) -> Input | ApiError:
    """The input that `document` describes, or what is wrong with it."""
    try:
        item = INPUT.validate_python(document, strict=True)
    except ValidationError as error:
        fault = faults(error, tagged=True)[0]
        return ApiError("invalid_value", f"{fault.param} {fault.sentence}".strip(), param=fault.param or None)
    return _source_fault(item) or item


def is_media(item: Input) -> bool:
    """Whether the input has to be decoded."""
    return isinstance(item, AudioInput | VideoInput)


def is_light(item: Input) -> bool:
    """Whether opening the input costs less than waking a thread for it."""
    if isinstance(item, TextInput):
        return len(item.text or "") < _LIGHT
    return isinstance(item, FeaturesInput) and len(item.data or "") < _LIGHT


def source_field(item: Input) -> str:
    """The field that holds what is tokenised."""
    return "text" if isinstance(item, TextInput) else "data"


def open_clip(tokenizer: Tokenizer, item: Input, truncate: Truncate) -> Clip:
    """The clip of `item`.

    Raises:
        InputError: it cannot be tokenised.
        ApiError: `data` is not what the other fields say.
    """
    match item:
        case TextInput():
            return tokenizer.open_text(item.text or "", truncate=truncate)
        case FeaturesInput():
            return tokenizer.open_features(item.modality, _features(item))
        case AudioInput():
            return _open_media(tokenizer, item, "audio", truncate)
        case VideoInput():
            return _open_media(tokenizer, item, item.track, truncate)
        case _:
            assert_never(item)


def _open_media(
    tokenizer: Tokenizer, item: AudioInput | VideoInput, modality: Any, truncate: Truncate
) -> Clip:
    return tokenizer.open(
        _bytes(item.data), modality, start_sec=item.start_sec, end_sec=item.end_sec, truncate=truncate
    )


def _source_fault(item: Input) -> ApiError | None:
    """Exactly one source is given, and it is not a URL."""
    if item.url is not None:
        return ApiError(
            "url_inputs_disabled", "this server fetches no URLs; send the bytes in `data`", param="url"
        )
    field = source_field(item)
    if getattr(item, field) is None:
        return ApiError("invalid_value", f"{field} is missing", param=field)
    return None


def _bytes(data: str | bytes | None) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return binascii.a2b_base64(data or "", strict_mode=True)
    except ValueError:
        raise ApiError("invalid_value", "data is not base64", param="data") from None


def _features(item: FeaturesInput) -> NDArray[np.float32]:
    dtype = np.dtype(item.dtype).newbyteorder("<")
    raw = _bytes(item.data)
    needed = math.prod(item.shape) * dtype.itemsize
    if len(raw) != needed:
        raise ApiError(
            "invalid_value",
            f"data has {len(raw)} bytes, a {item.dtype} array of shape {item.shape} has {needed}",
            param="data",
        )
    return np.frombuffer(raw, dtype).reshape(item.shape).astype(np.float32)
