"""Clip -> windows -> graphs -> codes: the same path for a file, a folder and a request."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tessera.bundle import Bundle, Manifest
from tessera.chain import Chain
from tessera.clips import Clip, MediaClip, ReadyClip
from tessera.codes import Encoding
from tessera.devices import Device, GpuSettings
from tessera.errors import InputError
from tessera.hub import open_bundle
from tessera.limits import Limits, Truncate
from tessera.media import Excerpt, probe, read_audio, read_video
from tessera.profiles import shape_profile
from tessera.runtime import Graph
from tessera.text import bundle_words
from tessera.windows import Modality, Stage, Window, WindowCodes

_BATCH_WINDOWS = 8

# Beyond it distances overflow float32, and the codes would be wrong without a word.
_LARGEST_FEATURE = 1e6


class Tokenizer:
    """Turns audio, video and text into codes of one alphabet.

    `encode*` are for one clip at a time. A server opens clips, sends their windows through `run` in batches of its
    own making, and assembles: batches hold windows of equal shape, so an answer never depends on its batch.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device | str = "cpu",
        threads: int | None = None,
        limits: Limits | None = None,
        gpu: GpuSettings | None = None,
    ) -> None:
        """Load the graphs of `bundle` on `device`: `cpu`, `cuda`, `tensorrt`, or one GPU of several, as `cuda:1`.

        Raises:
            BundleError: a graph cannot be loaded.
            RuntimeUnavailable: the device is not there.
        """
        self.bundle = bundle
        self.limits = limits or Limits()
        self.device = Device.of(device)
        self._graphs = {
            name: Graph(
                bundle.graph(name), self.device, threads, gpu=gpu, profile=shape_profile(self.manifest, name)
            )
            for name in bundle.manifest.graphs
        }
        self._chains: dict[tuple[Modality, Stage], Chain] = {}
        for modality in self.modalities:
            codes = self._graphs[f"{modality}.codes"]
            self._chains[modality, "media"] = Chain(codes, self._graphs[f"{modality}.backbone"])
            self._chains[modality, "features"] = Chain(codes)
        self._words = bundle_words(bundle) if self.manifest.text else None

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        device: Device | str = "cpu",
        threads: int | None = None,
        limits: Limits | None = None,
        gpu: GpuSettings | None = None,
    ) -> Self:
        """The tokenizer of the bundle in folder `bundle`; without one, of the demo bundle inside the package.

        `hf://owner/name@revision` is a bundle on the Hugging Face hub (extra `hub`); the revision may be left out.
        """
        return cls(open_bundle(bundle), device=device, threads=threads, limits=limits, gpu=gpu)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities this bundle reads."""
        return self.manifest.modalities

    @property
    def providers(self) -> list[str]:
        """The execution providers in use."""
        return sorted({graph.provider for graph in self._graphs.values()})

    def encode(
        self,
        source: bytes | str | os.PathLike[str],
        modality: Modality | None = None,
        *,
        start_sec: float = 0.0,
        end_sec: float | None = None,
        truncate: Truncate = "none",
    ) -> Encoding:
        """Codes of a media file (path or bytes), or of a `.txt` file.

        Without `modality` a file with a moving picture is video, any other is audio; `modality="audio"` takes the
        sound track of a video.

        Raises:
            InputError: the input cannot be tokenised; `code` says why.
            FileNotFoundError: no such file.
        """
        if isinstance(source, str | os.PathLike):
            source = Path(source)
            if modality == "text" or (modality is None and source.suffix == ".txt"):
                return self.encode_text(source.read_text(errors="replace"), truncate=truncate)
        if modality == "text":
            raise InputError("invalid_value", "text is given to encode_text, as a string")
        if modality is None:
            modality = "video" if probe(source, self.limits).has_video else "audio"
        clip = self.open(source, modality, start_sec=start_sec, end_sec=end_sec, truncate=truncate)
        return self._encode(clip)

    def encode_text(self, text: str, *, truncate: Truncate = "none") -> Encoding:
        """Codes of a text, one segment a word.

        Raises:
            InputError: `text_too_long`, or `empty_input` when it holds no word.
        """
        return self._encode(self.open_text(text, truncate=truncate))

    def encode_features(self, modality: Modality, features: NDArray[np.float32]) -> Encoding:
        """Codes of backbone features [N, ...] of one clip.

        Raises:
            InputError: `invalid_value` for another shape than the bundle's, or values that are not finite.
        """
        return self._encode(self.open_features(modality, features))

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
        self._require(modality)
        grid, excerpt = self.manifest.time_grid, Excerpt(start_sec, end_sec)
        if modality == "audio" and self.manifest.audio is not None:
            sound = read_audio(
                source, self.manifest.audio, grid, self.limits, excerpt=excerpt, truncate=truncate
            )
            return MediaClip("audio", sound, grid.hop_sec)
        if modality == "video" and self.manifest.video is not None:
            picture = read_video(
                source, self.manifest.video, grid, self.limits, excerpt=excerpt, truncate=truncate
            )
            return MediaClip("video", picture, grid.hop_sec)
        raise InputError("invalid_value", f"{modality} is not media")

    def open_text(self, text: str, *, truncate: Truncate = "none") -> Clip:
        """A text as a clip of word slots."""
        self._require("text")
        assert self._words is not None, "a bundle that reads text has a tokenizer. This is a bug."
        windows, cut = self._words.cut(text, self.limits, truncate)
        return ReadyClip("text", windows, truncated=cut)

    def open_features(self, modality: Modality, features: NDArray[np.float32]) -> Clip:
        """Backbone features [N, ...] of one clip; they enter behind the backbone. Maps do where means are seen."""
        self._require(modality)
        expected = self.feature_shape(modality)
        if modality == "video" and len(expected) == 1 and features.ndim == 4:
            # The model sees no more of a map than its mean.
            features = features.mean(axis=(1, 2), dtype=np.float32)
        if features.shape[1:] != expected or not len(features):
            raise InputError(
                "invalid_value",
                f"{modality} features have shape [segments, {', '.join(map(str, expected))}], "
                f"not {list(features.shape)}",
            )
        if not (np.abs(features) <= _LARGEST_FEATURE).all():
            raise InputError("invalid_value", "features must be finite numbers of at most a million")
        size = self.manifest.time_grid.window_segments
        if len(features) > size * self.max_windows:
            raise self.limits.exceeded("max_media_seconds", "media_too_long", len(features), "segments")
        windows = [
            Window(modality, {"features": part}, len(part), stage="features")
            for part in (
                np.ascontiguousarray(features[i : i + size], dtype=np.float32)
                for i in range(0, len(features), size)
            )
        ]
        hop = None if modality == "text" else self.manifest.time_grid.hop_sec
        return ReadyClip(modality, windows, hop_sec=hop)

    @property
    def max_windows(self) -> int:
        """Windows of the longest clip that `limits` admit."""
        grid = self.manifest.time_grid
        return -(-grid.segments(self.limits.max_media_seconds) // grid.window_segments)

    def feature_shape(self, modality: Modality) -> tuple[int, ...]:
        """Shape of the features of one segment."""
        self._require(modality)
        spec = self.bundle.manifest.graphs[f"{modality}.codes"].inputs[0]
        return tuple(int(size) for size in spec.shape[2:])

    def run(self, windows: Sequence[Window]) -> list[WindowCodes]:
        """Windows of one `key` through the graphs as one batch; blocks, releasing the interpreter lock."""
        modality, stage, _ = windows[0].key
        batch = {name: np.stack([w.inputs[name] for w in windows]) for name in windows[0].inputs}
        outputs = self._chains[modality, stage].run(batch)
        return [
            WindowCodes(**{name: array[i] for name, array in outputs.items()}) for i in range(len(windows))
        ]

    def assemble(self, clip: Clip, results: Sequence[WindowCodes]) -> Encoding:
        """The answers for the windows of `clip`, which was read to its end, as one encoding."""
        clip_codes, clip_margins = _clip_code(results)
        return Encoding(
            modality=clip.modality,
            codes=np.concatenate([r.codes for r in results]),
            margins=np.concatenate([r.margins for r in results]),
            embeddings=np.concatenate([r.embeddings for r in results]),
            latents=np.concatenate([r.latents for r in results]),
            clip_codes=clip_codes,
            clip_margins=clip_margins,
            duration_sec=clip.duration_sec,
            start_sec=clip.start_sec,
            hop_sec=clip.hop_sec,
            truncated=clip.truncated,
        )

    def warm_up(self) -> None:
        """Run a real batch of each modality through all graphs; on a GPU, every size of batch of whole windows."""
        segments = self.manifest.time_grid.window_segments if self.device.is_gpu else 1
        for (modality, stage), chain in self._chains.items():
            if stage == "media" or self.device.is_gpu:
                graph = f"{modality}.{'backbone' if stage == 'media' else 'codes'}"
                inputs = self.manifest.graphs[graph].inputs
                chain.warm_up(
                    {
                        t.name: np.zeros(t.sized(batch=1, time=segments, tokens=segments), t.dtype)
                        for t in inputs
                    }
                )

    def _encode(self, clip: Clip) -> Encoding:
        try:
            results = [codes for batch in _batches(clip) for codes in self.run(batch)]
        finally:
            clip.close()
        return self.assemble(clip, results)

    def _require(self, modality: Modality) -> None:
        if modality not in self.modalities:
            raise InputError(
                "invalid_value", f"this bundle reads {', '.join(self.modalities)}, not {modality}"
            )


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Consecutive windows of equal key, a few at a time, so that a long clip is never in memory whole."""
    for _, group in itertools.groupby(windows, key=lambda window: window.key):
        while batch := list(itertools.islice(group, _BATCH_WINDOWS)):
            yield batch


def _clip_code(
    results: Sequence[WindowCodes],
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
    """The clip code that most segments vote for, each through its window; the earliest wins a tie."""
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
