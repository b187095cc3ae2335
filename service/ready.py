"""Clips that need no decoding - texts, features - as blocks, and the answers for these blocks as codes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.jobs import Block, BlockAnswer
from tessera.clips import ReadyClip
from tessera.codes import Codes
from tessera.opener import ClipOpener
from tessera.windows import Modality, WindowCodes


@dataclass(frozen=True, slots=True)
class FeatureArray:
    """Features [clips, segments, ...] of clips of equal length, as a raw body has them: several inputs in one."""

    modality: Modality
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReadyClips:
    """Clips of equal length; each has `windows[b]` consecutive windows of block b."""

    clip: ReadyClip
    count: int
    blocks: Sequence[Block]
    windows: Sequence[int]

    @classmethod
    def of_clip(cls, clip: ReadyClip) -> ReadyClips:
        """One clip."""
        blocks = [Block.of(window) for window in clip.windows]
        return cls(clip, 1, blocks, [1] * len(blocks))

    @classmethod
    def of_array(cls, opener: ClipOpener, array: FeatureArray) -> ReadyClips:
        """Those of an array, which is not copied where a clip is one window.

        Raises:
            InputError: the features are not those of the bundle.
        """
        modality = array.modality
        values = opener.checked_features(modality, array.values)
        clips, segments = values.shape[:2]
        size = opener.manifest.time_grid.window_segments
        whole, rest = divmod(segments, size)
        blocks, windows = [], []
        if whole:
            stacked = values[:, : whole * size].reshape(clips * whole, size, *values.shape[2:])
            blocks.append(Block(modality, "features", {"features": stacked}, size))
            windows.append(whole)
        if rest:
            tail = np.ascontiguousarray(values[:, whole * size :])
            blocks.append(Block(modality, "features", {"features": tail}, rest))
            windows.append(1)
        return cls(ReadyClip(modality, [], hop_sec=opener.hop_sec(modality)), clips, blocks, windows)

    @property
    def segments(self) -> int:
        """Of all clips together."""
        segments = 0
        for block in self.blocks:
            segments += block.count * block.segments
        return segments

    def codes(self, opener: ClipOpener, answers: Sequence[BlockAnswer]) -> Iterator[Codes | Exception]:
        """What became of each clip."""
        plain = len(answers) == 1 and not answers[0].failures and "embeddings" not in answers[0].outputs
        if plain and self.windows[0] == 1:
            yield from self._plain_codes(answers[0].outputs)
            return
        for number in range(self.count):
            rows = [
                (answer, row)
                for answer, count in zip(answers, self.windows, strict=True)
                for row in range(number * count, (number + 1) * count)
            ]
            failure = next((a.failures[row] for a, row in rows if row in a.failures), None)
            if failure is not None:
                yield failure
                continue
            yield opener.assemble(self.clip, [WindowCodes.of(answer.outputs, row) for answer, row in rows])

    def _plain_codes(self, outputs: Mapping[str, NDArray[Any]]) -> Iterator[Codes]:
        """Of clips of one window that want codes alone, as most do: nothing is to be put together."""
        clip, clip_codes = self.clip, outputs.get("clip_code")
        for row, codes in enumerate(outputs["codes"]):
            yield Codes(
                modality=clip.modality,
                codes=codes,
                clip_codes=None if clip_codes is None else clip_codes[row],
                hop_sec=clip.hop_sec,
                truncated=clip.truncated,
            )
