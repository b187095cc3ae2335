"""An input of a request -> a clip of the tokenizer. What is here may block: it runs in the decoding pool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import pybase64
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import ApiError
from service.ready import FeatureArray
from service.schemas import INPUT, AudioInput, DType, FeaturesInput, Input, TextInput, VideoInput
from service.validation import faults
from tessera.clips import Clip
from tessera.limits import Truncate
from tessera.opener import ClipOpener
from tessera.windows import Modality

_LIGHT = 16 * 1024
"""Characters of text or of base64 that are opened sooner than a thread is woken."""

_LIGHT_ARRAY = 2**20
"""Bytes of features that are looked through sooner than a thread is woken."""


MediaInput = AudioInput | VideoInput


def parse_input(document: Any) -> Input | ApiError:
    """The input that `document` describes, or what is wrong with it."""
    try:
        item = INPUT.validate_python(document, strict=True)
    except ValidationError as error:
        fault = faults(error, tagged=True)[0]
        return ApiError("invalid_value", f"{fault.param} {fault.sentence}".strip(), param=fault.param or None)
    return _source_fault(item) or item


def media_modality(item: MediaInput) -> Modality:
    """What of a file is tokenised."""
    return item.track if isinstance(item, VideoInput) else "audio"


def is_light(item: TextInput | FeaturesInput | FeatureArray) -> bool:
    """Whether opening the input costs less than waking a thread for it."""
    if isinstance(item, FeatureArray):
        return item.values.nbytes < _LIGHT_ARRAY
    return len((item.text if isinstance(item, TextInput) else item.data) or "") < _LIGHT


def source_field(item: Input | FeatureArray) -> str:
    """The field that says what is tokenised."""
    if not isinstance(item, FeatureArray) and item.url is not None:
        return "url"
    return "text" if isinstance(item, TextInput) else "data"


def open_clip(opener: ClipOpener, item: Input, truncate: Truncate) -> Clip:
    """The clip of `item`.

    Raises:
        InputError: it cannot be tokenised.
        ApiError: `data` is not what the other fields say.
    """
    match item:
        case TextInput():
            return opener.open_text(item.text or "", truncate=truncate)
        case FeaturesInput():
            return opener.open_features(item.modality, _features(item))
        case AudioInput() | VideoInput():
            return _open_media(opener, item, truncate)
        case _:
            assert_never(item)


def media_bytes(item: MediaInput) -> bytes:
    """The file of `item`.

    Raises:
        ApiError: `invalid_value`: it is not base64.
    """
    return _bytes(item.data)


def _open_media(opener: ClipOpener, item: MediaInput, truncate: Truncate) -> Clip:
    return opener.open(
        media_bytes(item),
        media_modality(item),
        start_sec=item.start_sec,
        end_sec=item.end_sec,
        truncate=truncate,
    )


def _source_fault(item: Input) -> ApiError | None:
    """Exactly one source is given."""
    field = "text" if isinstance(item, TextInput) else "data"
    given = getattr(item, field) is not None
    if given and item.url is not None:
        return ApiError("invalid_value", f"{field} and url are both given", param="url")
    if not given and item.url is None:
        return ApiError("invalid_value", f"{field} is missing", param=field)
    return None


def _bytes(data: str | bytes | None) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return pybase64.b64decode(data or "", validate=True)
    except ValueError:
        raise ApiError("invalid_value", "data is not base64", param="data") from None


def _features(item: FeaturesInput) -> NDArray[np.float32]:
    return array_of(_bytes(item.data), item.dtype, item.shape, "data")


def array_of(raw: bytes, dtype: DType, shape: Sequence[int], what: str) -> NDArray[np.float32]:
    """The array in `raw`, little endian; of float32 a view.

    Raises:
        ApiError: `invalid_value`: `raw` has another number of bytes.
    """
    stored = np.dtype(dtype).newbyteorder("<")
    needed = math.prod(shape) * stored.itemsize
    if len(raw) != needed:
        raise ApiError(
            "invalid_value",
            f"{what} has {len(raw)} bytes, a {dtype} array of shape {list(shape)} has {needed}",
            param="data",
        )
    return np.frombuffer(raw, stored).reshape(shape).astype(np.float32, copy=False)
