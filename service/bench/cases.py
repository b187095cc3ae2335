"""What is measured: real media, texts and features of ten seconds or words, made in memory."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import orjson
from numpy.typing import NDArray

from tessera.codes import Encoding
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality, Window

_SEGMENTS = 10
_FPS = 25
_TEXT = "a dog barks while heavy rain falls on the roof"


@dataclass(frozen=True)
class Case:
    """One request, sent again and again: its body, its windows, and the codes that must come back."""

    name: str
    items: int
    content_type: str
    body: bytes
    windows: Sequence[Window]
    codes: list[list[list[int]]]


def cases(tokenizer: Tokenizer, many: int = 32) -> Iterator[Case]:
    """Each modality of the bundle as it is, then as features; texts and features also `many` in a request."""
    media = {"audio": ("audio/wav", _wav), "video": ("video/mp4", _mp4)}
    for modality in tokenizer.modalities:
        if modality == "text":
            entry = {"type": "text", "text": _TEXT}
            windows, encoding = list(tokenizer.open_text(_TEXT)), tokenizer.encode_text(_TEXT)
            yield from (_json_case("text", entry, windows, encoding, count) for count in (1, many))
        else:
            kind, make = media[modality]
            body = make()
            windows, codes = list(tokenizer.open(body, modality)), tokenizer.encode(body, modality).codes
            yield Case(modality, 1, kind, body, windows, [codes.tolist()])
    for modality in tokenizer.modalities:
        yield from _feature_cases(tokenizer, modality, many)


def feature_windows(tokenizer: Tokenizer, modality: Modality) -> list[Window]:
    """One window of features that are noise."""
    return list(tokenizer.open_features(modality, _features(tokenizer, modality)))


def _features(tokenizer: Tokenizer, modality: Modality) -> NDArray[np.float32]:
    shape = (_SEGMENTS, *tokenizer.feature_shape(modality))
    return np.random.default_rng(0).normal(size=shape).astype("<f4")


def _feature_cases(tokenizer: Tokenizer, modality: Modality, many: int) -> Iterator[Case]:
    features = _features(tokenizer, modality)
    entry = {
        "type": "features",
        "modality": modality,
        "shape": features.shape,
        "data": base64.b64encode(features.tobytes()).decode(),
    }
    windows = feature_windows(tokenizer, modality)
    encoding = tokenizer.encode_features(modality, features)
    yield from (_json_case(f"{modality} features", entry, windows, encoding, count) for count in (1, many))


def _json_case(
    name: str, entry: dict[str, Any], windows: list[Window], encoding: Encoding, count: int
) -> Case:
    body = orjson.dumps({"inputs": [entry] * count})
    return Case(name, count, "application/json", body, windows * count, [encoding.codes.tolist()] * count)


def _wav() -> bytes:
    rate = 16_000
    times = np.arange(_SEGMENTS * rate) / rate
    samples = (0.4 * np.sin(2 * np.pi * (200 + 40 * times) * times) * 32767).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def _mp4(width: int = 320, height: int = 240) -> bytes:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(_SEGMENTS * _FPS):
            picture = np.stack([columns + 2 * number, rows + number, columns ^ rows], axis=-1).astype(
                np.uint8
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
