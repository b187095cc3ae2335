"""The result of tokenising one clip, and its two written forms: JSON and a compact binary."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.windows import MODALITIES, Modality

_MAGIC = b"TSC1"
_HEADER = struct.Struct("<4sBBHIddd")  # magic, modality, levels, flags, segments, duration, start, hop
_TRUNCATED, _HAS_CLIP = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """The codes of one clip: `N` segments, `L` levels.

    Segments are `hop_sec` seconds of audio or video, or word slots of a text, which have no times: `hop_sec`
    and `duration_sec` are then None. Clip codes are there where the model was trained on them (FCID).
    """

    modality: Modality
    codes: NDArray[np.int64]  # [N, L]
    clip_codes: NDArray[np.int64] | None = None  # [L]
    duration_sec: float | None = None
    start_sec: float = 0.0
    hop_sec: float | None = None
    truncated: bool = False

    def fields(self) -> dict[str, Any]:
        """What an entry of `POST /tokenize` says of the clip itself, codes as arrays."""
        document: dict[str, Any] = {
            "modality": self.modality,
            "duration_sec": self.duration_sec,
            "truncated": self.truncated,
            "segments": {"count": len(self.codes), "hop_sec": self.hop_sec, "start_sec": self.start_sec},
            "codes": self.codes,
        }
        if self.clip_codes is not None:
            document["clip_codes"] = self.clip_codes
        return document

    def to_json(self) -> dict[str, Any]:
        """The same in plain Python values."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.fields().items()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Codes:
        """Read what `to_json` wrote, or an entry of an answer of `POST /tokenize`.

        Raises:
            ValueError: a field is missing or of the wrong form.
        """
        try:
            clip = document.get("clip_codes")
            return Codes(
                modality=_modality(document["modality"]),
                codes=_code_matrix(document["codes"]),
                clip_codes=None if clip is None else np.asarray(clip, dtype=np.int64),
                duration_sec=document["duration_sec"],
                start_sec=float(document["segments"]["start_sec"]),
                hop_sec=document["segments"]["hop_sec"],
                truncated=bool(document["truncated"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a document of codes: {error}") from None

    def to_bytes(self) -> bytes:
        """A header and the codes as uint16, segment by segment, clip codes last."""
        flags = _TRUNCATED * self.truncated | _HAS_CLIP * (self.clip_codes is not None)
        header = _HEADER.pack(
            _MAGIC,
            MODALITIES.index(self.modality),
            self.codes.shape[1],
            flags,
            len(self.codes),
            _or_nan(self.duration_sec),
            self.start_sec,
            _or_nan(self.hop_sec),
        )
        clip = b"" if self.clip_codes is None else self.clip_codes.astype("<u2").tobytes()
        return header + self.codes.astype("<u2").tobytes() + clip

    @classmethod
    def from_bytes(cls, data: bytes) -> Codes:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: `data` is not such a record, or is cut short.
        """
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise ValueError("not a record of Tessera codes")
        _, modality, levels, flags, segments, duration, start, hop = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if modality >= len(MODALITIES) or len(body) != 2 * levels * (segments + bool(flags & _HAS_CLIP)):
            raise ValueError("a damaged record of Tessera codes")
        values = np.frombuffer(body, "<u2").astype(np.int64)
        return Codes(
            modality=MODALITIES[modality],
            codes=values[: segments * levels].reshape(segments, levels),
            clip_codes=values[segments * levels :] if flags & _HAS_CLIP else None,
            duration_sec=_or_none(duration),
            start_sec=start,
            hop_sec=_or_none(hop),
            truncated=bool(flags & _TRUNCATED),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(Codes):
    """Codes with all that the graphs say of them; `Q` kept channels in all levels together.

    `margins`: distance to the second nearest code minus distance to the nearest, how sure each code is.
    `embeddings`: the codebook rows of the codes. `latents`: the continuous vectors before quantisation.
    """

    margins: NDArray[np.float32]  # [N, L]
    embeddings: NDArray[np.float32]  # [N, Q]
    latents: NDArray[np.float32]  # [N, Q]
    clip_margins: NDArray[np.float32] | None = None  # [L]

    @property
    def pooled(self) -> NDArray[np.float32]:
        """The mean embedding of the clip, [Q]: what retrieval compares by cosine."""
        return pooled(self.embeddings)


def pooled(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean [Q] of the embeddings [N, Q] of a clip."""
    mean: NDArray[np.float32] = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _modality(value: object) -> Modality:
    for modality in MODALITIES:
        if value == modality:
            return modality
    raise ValueError(f"'{value}' is not a modality")


def _code_matrix(value: object) -> NDArray[np.int64]:
    codes = np.asarray(value, dtype=np.int64)
    if codes.ndim != 2:
        raise ValueError("codes are a list of segments, each a list of levels")
    return codes
