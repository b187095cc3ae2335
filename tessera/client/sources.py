"""What can be tokenised: media, texts, features; and how each enters a request."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.errors import InputError
from tessera.limits import Limits
from tessera.windows import Modality


@dataclass(frozen=True, slots=True)
class Media:
    """A file, as a path or as its bytes.

    Without `modality` a file with a moving picture is video, a path that ends in `.txt` is a text, and any other is
    audio; "audio" takes the sound track of a film. `start_sec` and `end_sec` are seconds of the media.
    """

    source: bytes | str | os.PathLike[str]
    modality: Modality | None = None
    start_sec: float = 0.0
    end_sec: float | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A text; one word is one segment."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Backbone features [segments, ...] of one clip, as `feature_shapes` of the model says."""

    values: NDArray[np.floating[Any]]
    modality: Modality


Source = bytes | str | os.PathLike[str] | Media | Text | Features
"""A bare string is a path, never a text."""


@dataclass(frozen=True, slots=True)
class Part:
    """One input of a request: the fields of its JSON entry, and the content that travels in binary."""

    fields: dict[str, Any]
    content: bytes | None = None


def listed(sources: Source | Iterable[Source]) -> list[Source]:
    """One source, or many, as a list."""
    if isinstance(sources, bytes | str | os.PathLike | Media | Text | Features):
        return [sources]
    return list(sources)


def is_file(source: Source) -> bool:
    """Whether opening `source` reads a file."""
    inner = source.source if isinstance(source, Media) else source
    return isinstance(inner, str | os.PathLike)


def size_of(source: Source) -> int:
    """Bytes that `source` adds to a request, about.

    Raises:
        OSError: the file cannot be read.
    """
    inner = source.source if isinstance(source, Media) else source
    match inner:
        case Text():
            return len(inner.text.encode(errors="replace"))
        case Features():
            return inner.values.nbytes
        case bytes():
            return len(inner)
        case _:
            return Path(inner).stat().st_size


def opened(source: Source) -> Part:
    """The input that `source` is. Files are read here.

    Raises:
        OSError: the file cannot be read.
    """
    match source:
        case Text():
            return Part({"type": "text", "text": source.text})
        case Features():
            return _features(source)
        case Media():
            return _media(source)
        case _:
            return _media(Media(source))


def _media(media: Media) -> Part:
    path = None if isinstance(media.source, bytes) else Path(media.source)
    content = media.source if isinstance(media.source, bytes) else Path(media.source).read_bytes()
    kind = media.modality or _kind(path, content)
    if kind == "text":
        return Part({"type": "text", "text": content.decode(errors="replace")})
    fields: dict[str, Any] = {"type": kind, "start_sec": float(media.start_sec)}
    if media.end_sec is not None:
        fields["end_sec"] = float(media.end_sec)
    return Part(fields, content)


def _kind(path: Path | None, content: bytes) -> Modality:
    """As `Tokenizer.encode` tells; what cannot be told is sent as audio, so that the server says what is wrong."""
    from tessera.media import probe  # FFmpeg, which texts and features do without

    if path is not None and path.suffix == ".txt":
        return "text"
    try:
        return "video" if probe(content, Limits()).has_video else "audio"
    except InputError:
        return "audio"


def _features(features: Features) -> Part:
    dtype = "float16" if features.values.dtype == np.float16 else "float32"
    values = np.ascontiguousarray(features.values, np.dtype(dtype).newbyteorder("<"))
    fields = {"type": "features", "modality": features.modality, "dtype": dtype, "shape": list(values.shape)}
    return Part(fields, values.tobytes())
