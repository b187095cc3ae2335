"""An item: the codes of a clip under a name, with what its owner says of it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.index.errors import InvalidItem
from tessera.codes import Codes

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Names of indexes."""

LONGEST_ID = 512
LARGEST_METADATA = 32_768
"""Bytes, as UTF-8 and as JSON."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is written. `latents` [Q]: the mean continuous vector of the clip, where it is known.

    Raises:
        InvalidItem: an id or metadata that cannot be kept.
    """

    id: str
    codes: Codes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    latents: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if not self.id or "\0" in self.id or len(encoded(self.id, "id")) > LONGEST_ID:
            raise InvalidItem(f"id: must have 1 to {LONGEST_ID} bytes, none of them zero")
        if self.latents is not None and not np.isfinite(self.latents).all():
            raise InvalidItem("latents: must be finite numbers")

    def metadata_json(self) -> bytes:
        """The metadata as they are kept.

        Raises:
            InvalidItem: they are no JSON, or too large.
        """
        try:
            document = orjson.dumps(dict(self.metadata))
        except (TypeError, ValueError):
            raise InvalidItem("metadata: must be an object of JSON values") from None
        if len(document) > LARGEST_METADATA:
            raise InvalidItem(f"metadata: must have at most {LARGEST_METADATA} bytes as JSON")
        return document


@dataclass(frozen=True, kw_only=True)
class StoredItem:
    """What is kept of an item. Times are seconds since 1970; `key` is the number of this state of it."""

    key: int
    id: str
    codes: Codes
    metadata: dict[str, Any]
    created: float
    updated: float
    version: int


def encoded(text: str, name: str) -> bytes:
    """`text` as UTF-8.

    Raises:
        InvalidItem: it has half a character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidItem(f"{name}: must be whole Unicode characters") from None


_HEAD = struct.Struct("<5d3I")


def checksum(id: str, codes: bytes, metadata: bytes, latents: bytes | None, *numbers: float) -> int:
    """CRC-32 of all that is kept of an item: SQLite finds broken pages, not changed values."""
    name, vector = id.encode(), latents or b""
    head = _HEAD.pack(*numbers, len(name), len(codes), len(metadata))
    return zlib.crc32(b"".join((head, name, codes, metadata, vector)))


def packed_latents(latents: NDArray[np.floating]) -> bytes:
    """A vector as int8 with its scale before it, float32."""
    vector = np.asarray(latents, np.float64)
    scale = np.float32(np.abs(vector).max() / 127.0)
    steps = np.rint(vector / scale) if scale > 0 else np.zeros(len(vector))
    return scale.tobytes() + np.clip(steps, -127, 127).astype(np.int8).tobytes()


def unpacked_latents(data: bytes) -> NDArray[np.float64]:
    """What `packed_latents` kept."""
    scale = float(np.frombuffer(data, np.float32, 1)[0])
    return np.frombuffer(data, np.int8, offset=4).astype(np.float64) * scale
