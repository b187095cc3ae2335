"""What a bundle takes and gives without its graphs: opening clips, codes to embeddings, answers to encodings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.bundle import Bundle, Manifest
from tessera.clips import Clip, ReadyClip, open_media
from tessera.codes import Codes, Encoding
from tessera.errors import InputError
from tessera.limits import Limits, Truncate
from tessera.manifest import AudioSpec, VideoSpec
from tessera.media import Excerpt
from tessera.text import bundle_words
from tessera.windows import Modality, Window, WindowCodes

# Beyond it distances overflow float32, and the codes would be wrong without a word.
_LARGEST_FEATURE = 1e6


class ClipOpener:
    """The side of a tokenizer that needs no graphs: a process that only reads clips has no more than this."""

    def __init__(self, bundle: Bundle, limits: Limits | None = None) -> None:
        self.bundle = bundle
        self.limits = limits or Limits()
        self.modalities = bundle.manifest.modalities
        """The modalities this bundle reads."""
        self._feature_shapes = {
            modality: tuple(
                int(size) for size in bundle.manifest.graphs[f"{modality}.codes"].inputs[0].shape[2:]
            )
            for modality in self.modalities
        }
        self._words = bundle_words(bundle) if self.manifest.text else None

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    def detokenize(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings [N, Q] of `codes` [N, L]; rows of the levels of a residual quantiser add up.

        Raises:
            InputError: `code_out_of_range`, or `invalid_value` for another number of levels.
        """
        tables = self.bundle.codebook
        if codes.ndim != 2 or codes.shape[1] != len(tables):
            raise InputError("invalid_value", f"each segment has {len(tables)} code(s), one per level")
        for level, table in enumerate(tables):
            outside = codes[(codes[:, level] < 0) | (codes[:, level] >= len(table)), level]
            if len(outside):
                raise InputError(
                    "code_out_of_range",
                    f"code {outside[0]} of level {level} is not in 0..{len(table) - 1}",
                    limit=len(table) - 1,
                    actual=int(outside[0]),
                )
        rows = [table[codes[:, level]] for level, table in enumerate(tables)]
        depth = self.manifest.depth
        parts = [np.sum(rows[first : first + depth], axis=0) for first in range(0, len(rows), depth)]
        return np.concatenate(parts, axis=1)

    def open(
        self,
        source: bytes | os.PathLike[str],
        modality: Modality,
        *,
        start_sec: float = 0.0,
        end_sec: float | None = None,
        truncate: Truncate = "none",
    ) -> Clip:
        """The audio or video of `source` as a clip; reads headers, decodes when iterated."""
        spec, grid = self.media_spec(modality), self.manifest.time_grid
        return open_media(source, spec, grid, self.limits, Excerpt(start_sec, end_sec), truncate)

    def media_spec(self, modality: Modality) -> AudioSpec | VideoSpec:
        """What the backbone of `modality` takes.

        Raises:
            InputError: `invalid_value`: the bundle does not read it, or it is no media.
        """
        self._require(modality)
        spec = {"audio": self.manifest.audio, "video": self.manifest.video}.get(modality)
        if spec is None:
            raise InputError("invalid_value", f"{modality} is not media")
        return spec

    def open_text(self, text: str, *, truncate: Truncate = "none") -> Clip:
        """A text as a clip of word slots."""
        self._require("text")
        assert self._words is not None, "a bundle that reads text has a tokenizer. This is a bug."
        windows, cut = self._words.cut(text, self.limits, truncate)
        return ReadyClip("text", windows, truncated=cut)

    def open_features(self, modality: Modality, features: NDArray[np.float32]) -> Clip:
        """Backbone features [N, ...] of one clip; they enter behind the backbone. Maps do where means are seen.

        Raises:
            InputError: `invalid_value` for another shape than the bundle's, or values that are not finite numbers of
                at most a million; `media_too_long`.
        """
        (features,) = self.checked_features(modality, features[None])
        size = self.manifest.time_grid.window_segments
        windows = [
            Window(modality, {"features": part}, len(part), stage="features")
            for part in (features[i : i + size] for i in range(0, len(features), size))
        ]
        return ReadyClip(modality, windows, hop_sec=self.hop_sec(modality))

    def checked_features(self, modality: Modality, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features [clips, N, ...] of clips of equal length, as the codes graph takes them.

        Raises:
            InputError: as `open_features`.
        """
        expected = self.feature_shape(modality)
        if modality == "video" and len(expected) == 1 and clips.ndim == 5:
            # The model sees no more of a map than its mean.
            clips = clips.mean(axis=(2, 3), dtype=np.float32)
        if clips.shape[2:] != expected or not clips.size:
            raise InputError(
                "invalid_value",
                f"{modality} features have shape [segments, {', '.join(map(str, expected))}], "
                f"not {list(clips.shape[1:])}",
            )
        # The extremes of an array that holds NaN are NaN, and nothing is above or below that.
        if not (clips.max() <= _LARGEST_FEATURE and clips.min() >= -_LARGEST_FEATURE):
            raise InputError("invalid_value", "features must be finite numbers of at most a million")
        if clips.shape[1] > self.manifest.time_grid.window_segments * self.max_windows:
            raise self.limits.exceeded("max_media_seconds", "media_too_long", clips.shape[1], "segments")
        return np.ascontiguousarray(clips, dtype=np.float32)

    def is_one_clip(self, modality: Modality, axes: int) -> bool:
        """Whether features with so many axes are those of one clip, and not of several."""
        expected = 1 + len(self.feature_shape(modality))
        maps = modality == "video" and expected == 2  # maps do where means are seen
        return axes <= expected or (maps and axes == 4)

    def hop_sec(self, modality: Modality) -> float | None:
        """Seconds of a segment; None for text, whose words have no times."""
        return None if modality == "text" else self.manifest.time_grid.hop_sec

    @property
    def max_windows(self) -> int:
        """Windows of the longest clip that `limits` admit."""
        grid = self.manifest.time_grid
        return -(-grid.segments(self.limits.max_media_seconds) // grid.window_segments)

    def feature_shape(self, modality: Modality) -> tuple[int, ...]:
        """Shape of the features of one segment."""
        self._require(modality)
        return self._feature_shapes[modality]

    def assemble(self, clip: Clip, results: Sequence[WindowCodes]) -> Codes:
        """The answers for the windows of `clip`, which was read to its end: an `Encoding`, if they have all of it."""
        clip_codes, clip_margins = _clip_code(results)
        codes = _joined([r.codes for r in results])
        full = [r for r in results if r.embeddings is not None]
        if not full:
            return Codes(
                modality=clip.modality,
                codes=codes,
                clip_codes=clip_codes,
                duration_sec=clip.duration_sec,
                start_sec=clip.start_sec,
                hop_sec=clip.hop_sec,
                truncated=clip.truncated,
            )
        return Encoding(
            modality=clip.modality,
            codes=codes,
            margins=_joined([r.margins for r in full if r.margins is not None]),
            embeddings=_joined([r.embeddings for r in full if r.embeddings is not None]),
            latents=_joined([r.latents for r in full if r.latents is not None]),
            clip_codes=clip_codes,
            clip_margins=clip_margins,
            duration_sec=clip.duration_sec,
            start_sec=clip.start_sec,
            hop_sec=clip.hop_sec,
            truncated=clip.truncated,
        )

    def _require(self, modality: Modality) -> None:
        if modality not in self.modalities:
            raise InputError(
                "invalid_value", f"this bundle reads {', '.join(self.modalities)}, not {modality}"
            )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _clip_code(
    results: Sequence[WindowCodes],
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
    """The clip code that most segments vote for, each through its window; the earliest wins a tie."""
    if len(results) == 1:
        return results[0].clip_code, results[0].clip_margin
    votes: Counter[tuple[int, ...]] = Counter()
    winners: dict[tuple[int, ...], WindowCodes] = {}
    for result in results:
        if result.clip_code is None:
            return None, None
        code = tuple(result.clip_code.tolist())
        votes[code] += len(result.codes)
        winners.setdefault(code, result)
    winner = winners[votes.most_common(1)[0][0]]
    return winner.clip_code, winner.clip_margin
