"""Finished clips -> one feature store, a clip in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import ClipManifest, ClipRow
from training.data.shards import Shards
from training.data.store_writer import StoreWriter

LENGTHS, LEFT_OUT = "lengths.json", "left_out.json"

_TIMED = ("audio", "video")


@dataclass(frozen=True)
class Assembled:
    """How many clips of how many segments; `filled` of them are shorter in audio or video."""

    clips: int
    segments: int
    filled: int


def assemble(
    writer: StoreWriter, manifest: ClipManifest, shards: Shards, left_out: dict[str, str]
) -> Assembled:
    """Write every clip of `manifest` that is not `left_out`.

    Clips are as long as the longest of them: of a shorter one the last second is repeated, as in the papers' data.
    `lengths.json` has their own lengths by modality, `left_out.json` why clips are missing.
    """
    kept = [row for row in manifest.rows if row.id not in left_out]
    lengths = [{m: n for m, n in shards.lengths(row.digest).items() if m in _TIMED} for row in kept]
    segments = max((n for clip in lengths for n in clip.values()), default=0)
    classes = {label: index for index, label in enumerate(manifest.classes)}
    for place, row in enumerate(kept):
        arrays = shards.load(row.digest)
        media = {m: _filled(arrays[m], segments)[None] for m in _TIMED if m in arrays}
        writer.append([row.id], [-1 if row.label is None else classes[row.label]], **media)
        if "text" in arrays:
            writer.append_text(arrays["text"], arrays["words"], [place] * len(arrays["text"]))
    _add_splits(writer, kept)
    filled = sum(any(n < segments for n in clip.values()) for clip in lengths)
    if filled:
        own = {row.id: clip for row, clip in zip(kept, lengths, strict=True)}
        writer.add_file(LENGTHS, json.dumps(own).encode())
        writer.notes["shorter clips"] = f"{filled}: their last second is repeated up to {segments}"
    if left_out:
        writer.add_file(LEFT_OUT, json.dumps(left_out, indent=1).encode())
        writer.notes["left out"] = f"{len(left_out)} clips that cannot be read"
    return Assembled(len(kept), segments, filled)


def _filled(features: NDArray[Any], segments: int) -> NDArray[Any]:
    missing = segments - len(features)
    return np.concatenate([features, np.repeat(features[-1:], missing, axis=0)])


def _add_splits(writer: StoreWriter, rows: Sequence[ClipRow]) -> None:
    names = [row.split for row in rows]
    for name in dict.fromkeys(names):
        if name is not None:
            writer.add_split(name, np.flatnonzero([own == name for own in names]))
