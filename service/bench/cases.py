"""What is measured: clips of ten seconds or words, as each kind of request that brings them, and their codes."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from service.bench.load import Request
from service.bench.media import mp4, wav
from service.ready import FeatureArray
from service.request import Item
from service.schemas import INPUT, Input
from tessera.codes import Encoding
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality, Window

MANY = 32
"""Items of a large request."""

Payload = Literal["media", "json", "base64", "raw"]

_SEGMENTS = 10
_CLIPS = 8
_FILMS = 2
_WORDS = ("a", "dog", "barks", "while", "heavy", "rain", "falls", "on", "the", "roof")

Codes = list[list[int]]


@dataclass(frozen=True)
class ClipItem:
    """One input, as the engine takes it, and the codes that are right; `body` is what a request with it alone sends."""

    item: Input
    entry: dict[str, Any] | bytes
    codes: Codes


@dataclass(frozen=True)
class Case:
    """Different clips of equal shape, so that they can share a batch and an answer given to another one is noticed."""

    name: str
    payload: Payload
    tokenizer: Tokenizer
    window: Window
    clips: Sequence[ClipItem]
    path: str = "/tokenize"
    content_type: str = "application/json"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Items of a request; a file of media comes alone."""
        return (1,) if self.payload == "media" else (1, MANY)

    def in_flight(self, size: int) -> int:
        """Requests of `size` items at once where the rate is measured; fewer of those that take long."""
        if self.payload == "media":
            return 4
        return 64 if size == 1 else 8

    def requests(self, size: int) -> list[Request]:
        """Requests of `size` items, each beginning at another clip."""
        return [self._request(self.turn(first, size)) for first in range(len(self.clips))]

    def turn(self, first: int, size: int) -> list[ClipItem]:
        """`size` clips in turn."""
        return [self.clips[(first + offset) % len(self.clips)] for offset in range(size)]

    def items(self, clips: Sequence[ClipItem]) -> list[Item]:
        """`clips`, as the engine is given them when a request brings them."""
        if self.payload != "raw":
            return [clip.item for clip in clips]
        values = np.frombuffer(_joined(clips), np.float32)
        return [
            FeatureArray(
                self.window.modality, values.reshape(len(clips), *self.window.inputs["features"].shape)
            )
        ]

    def _request(self, clips: Sequence[ClipItem]) -> Request:
        path, body = self.path, b""
        if self.payload == "raw":
            shape = (len(clips), *self.window.inputs["features"].shape)
            shape = shape[1:] if len(clips) == 1 else shape
            path += f"?modality={self.window.modality}&dtype=float32&shape={','.join(map(str, shape))}"
        if self.content_type == "application/json":
            body = orjson.dumps({"inputs": [clip.entry for clip in clips]})
        else:
            body = _joined(clips)
        check = partial(has_codes, codes=[clip.codes for clip in clips])
        return Request(path, body, {"content-type": self.content_type}, check=check)


def _joined(clips: Sequence[ClipItem]) -> bytes:
    return b"".join(clip.entry for clip in clips if isinstance(clip.entry, bytes))


def has_codes(body: bytes, codes: list[Codes]) -> bool:
    """Whether the answer `body` has these codes, clip by clip."""
    try:
        return [entry["codes"] for entry in orjson.loads(body)["data"]] == codes
    except (ValueError, KeyError, TypeError):
        return False


def media_cases(tokenizer: Tokenizer) -> Iterator[Case]:
    """Each modality of the bundle as it is."""
    files: dict[Modality, tuple[str, list[bytes]]] = {
        "audio": ("audio/wav", [wav(_SEGMENTS, 200 + 20 * number) for number in range(_CLIPS)]),
        "video": ("video/mp4", [mp4(_SEGMENTS, hue=50 * number) for number in range(_FILMS)]),
    }
    for modality in tokenizer.modalities:
        if modality == "text":
            yield _text_case(tokenizer)
            continue
        kind, bodies = files[modality]
        window = next(iter(tokenizer.open(bodies[0], modality)))
        clips = [
            ClipItem(_input(type=modality, data=body), body, _codes(tokenizer.encode(body, modality)))
            for body in bodies
        ]
        yield Case(modality, "media", tokenizer, window, clips, content_type=kind)


def feature_cases(tokenizer: Tokenizer, modality: Modality, name: str) -> Iterator[Case]:
    """Features that are noise: in JSON as base64, and as they are."""
    features = [_features(tokenizer, modality, number) for number in range(_CLIPS)]
    window = feature_windows(tokenizer, modality)[0]
    described = {"type": "features", "modality": modality, "shape": list(features[0].shape)}
    clips = [
        ClipItem(
            _input(**described, data=array.tobytes()),
            array.tobytes(),
            _codes(tokenizer.encode_features(modality, array)),
        )
        for array in features
    ]
    encoded = [
        ClipItem(clip.item, {**described, "data": base64.b64encode(array.tobytes()).decode()}, clip.codes)
        for clip, array in zip(clips, features, strict=True)
    ]
    yield Case(f"{name}, base64", "base64", tokenizer, window, encoded)
    yield Case(f"{name}, raw", "raw", tokenizer, window, clips, content_type="application/octet-stream")


def feature_windows(tokenizer: Tokenizer, modality: Modality) -> list[Window]:
    """One window of features that are noise."""
    return list(tokenizer.open_features(modality, _features(tokenizer, modality, 0)))


def _text_case(tokenizer: Tokenizer) -> Case:
    """The same words in another order are another text with as many tokens."""
    texts = [" ".join(random.Random(number).sample(_WORDS, len(_WORDS))) for number in range(_CLIPS)]
    entries = [{"type": "text", "text": text} for text in texts]
    clips = [
        ClipItem(_input(**entry), entry, _codes(tokenizer.encode_text(entry["text"]))) for entry in entries
    ]
    return Case("text", "json", tokenizer, next(iter(tokenizer.open_text(texts[0]))), clips)


def _features(tokenizer: Tokenizer, modality: Modality, seed: int) -> NDArray[np.float32]:
    shape = (_SEGMENTS, *tokenizer.feature_shape(modality))
    return np.random.default_rng(seed).normal(size=shape).astype("<f4")


def _input(**fields: Any) -> Input:
    return INPUT.validate_python(fields, strict=True)


def _codes(encoding: Encoding) -> Codes:
    codes: Codes = encoding.codes.tolist()
    return codes
