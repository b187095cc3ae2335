"""Is a feature store what it says it is, and what the released dataset is known to be?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from training.data.archives.conversion import halved_warning
from training.data.archives.dataset import Clip, Dataset, Format
from training.data.archives.faults import BadClip, Faults
from training.data.archives.files import Files
from training.data.archives.reading import Preparation, Ready
from training.data.store import FeatureStore

_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    passed: bool
    found: str


def verify(store: FeatureStore, format: Format | None, partial: bool, console: Console) -> list[Check]:
    """Every number of a store against its manifest and its own rules, and its size against that of the dataset.

    Args:
        format: the dataset that the store is of; None if it is none of the released ones.
        partial: fewer clips than the dataset has are fine.
    """
    checks = [Check("names", True, f"{len(store):,} clips, each name once")]
    arrays = track(store.arrays.items(), "arrays", console=console)
    checks += [_check_array(store, name, array) for name, array in arrays]
    checks.append(_check_labels(store))
    if "segments" in store.arrays:
        checks.append(_check_segments(store))
    if "text" in store.arrays:
        checks.append(_check_words(store))
    if format:
        checks += check_size(store, format, partial)
    return checks


def compare(store: FeatureStore, format: Format, files: Files, workers: int, console: Console) -> list[Check]:
    """A store against the released files: the same clips, and the same numbers in each; texts are not read again.

    A clip may be missing from the store if it cannot be read.

    Raises:
        TrainingError: a list of the dataset is damaged.
    """
    dataset = format.open(files, Faults(skip=True))
    return [
        _check_lists(store, dataset),
        *_check_contents(store, dataset, workers, console),
    ]


def _check_array(store: FeatureStore, name: str, array: NDArray[Any]) -> Check:
    digest, broken = hashlib.sha256(), 0
    for block in _blocks(array):
        digest.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        if block.dtype.kind == "f":
            broken += int((~np.isfinite(block).reshape(len(block), -1).all(axis=1)).sum())
    shape = f"{' x '.join(map(str, array.shape))} {array.dtype}"
    if broken:
        return Check(name, False, f"{shape}: {broken} rows are no finite numbers")
    if digest.hexdigest() != store.manifest.arrays[name].sha256:
        return Check(name, False, f"{shape}: the numbers are not those that were written")
    return Check(name, True, f"{shape}, as written")


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rows = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _check_labels(store: FeatureStore) -> Check:
    labels, classes = store.arrays["labels"], len(store.classes)
    outside = int(((labels < -1) | (labels >= classes)).sum())
    if outside:
        return Check("classes", False, f"{outside} labels are none of {classes} classes")
    if not classes:
        return Check("classes", True, "there are none")
    happens = _classes_of_clips(store)
    occurring, with_class = happens.any(axis=0).sum(), happens.any(axis=1).sum()
    return Check("classes", True, f"{occurring} of {classes} classes occur, in {with_class:,} clips")


def _classes_of_clips(store: FeatureStore) -> NDArray[np.bool_]:
    """[N, C]: does the class belong to the clip? Where there are events, that is for its seconds to say."""
    segments = store.arrays.get("segments")
    if store.manifest.task == "events" and segments is not None and segments.ndim == 3:
        return np.asarray(segments[..., :-1].any(axis=1))
    return np.asarray(store.arrays["labels"][:, None] == np.arange(len(store.classes)))


def _check_segments(store: FeatureStore) -> Check:
    """Each second has a class or background, never both; of a clip with a label it has one."""
    segments, labels = np.asarray(store.arrays["segments"]), store.arrays["labels"]
    if segments.ndim != 3 or segments.shape[-1] != len(store.classes) + 1:
        return Check("seconds", False, f"{list(segments.shape)} for {len(store.classes)} classes")
    background, total = segments[..., -1], segments.sum(axis=-1)
    wrong = (total < 1) | (background & (total > 1)) | ((labels >= 0)[:, None] & (total != 1))
    if clips := int(wrong.any(axis=1).sum()):
        return Check("seconds", False, f"{clips} clips have seconds without a class, or with too many")
    return Check("seconds", True, f"{1 - background.mean():.0%} of the seconds have a class")


def _check_words(store: FeatureStore) -> Check:
    text, words = store.arrays["text"], store.arrays["words"]
    slots = text.shape[1]
    if not ((words >= 1) & (words <= slots)).all():
        return Check("slots", False, f"texts have 1 to {slots} words, some say otherwise")
    filled = np.concatenate([np.abs(block).max(axis=-1) > 0 for block in _blocks(text)])
    if (filled & (np.arange(slots) >= words[:, None])).any():
        return Check("slots", False, "there are vectors behind the last word")
    return Check("slots", True, f"{len(text):,} texts of {words.mean():.1f} words")


def check_size(store: FeatureStore, format: Format, partial: bool) -> list[Check]:
    """How many clips and classes there are, and how many the dataset is known to have."""
    known, clips = format.known, len(store)
    if format.is_halved(clips):
        return [Check("size", partial, halved_warning(format, clips))]
    expected: list[tuple[str, int, tuple[int, ...]]] = []
    if known.clips:
        expected.append(("size", clips, known.clips))
    if known.classes:
        expected.append(("class list", len(store.classes), (known.classes,)))
    expected += [
        (f"split {name}", len(store.rows.get(name, ())), (size,)) for name, size in known.splits.items()
    ]
    if not expected:
        return [Check("size", True, f"{clips:,}; how many there ought to be is not known")]
    return [_size(name, found, wanted, partial) for name, found, wanted in expected]


def _size(name: str, found: int, wanted: tuple[int, ...], partial: bool) -> Check:
    if found in wanted:
        return Check(name, True, f"{found:,}, as released")
    whole = " or ".join(f"{size:,}" for size in wanted)
    return Check(name, partial and found < max(wanted), f"{found:,}, the dataset has {whole}")


def _check_lists(store: FeatureStore, dataset: Dataset) -> Check:
    listed = {clip.id for clip in dataset.clips}
    if foreign := [name for name in store.ids if name not in listed]:
        return Check(
            "list", False, f"'{foreign[0]}' and {len(foreign) - 1} more clips are not in the dataset"
        )
    if store.classes != dataset.classes:
        return Check("list", False, "the classes are others, or in another order")
    rows = {name: row for row, name in enumerate(store.ids)}
    labels = store.arrays["labels"]
    members = {split: set(rows.tolist()) for split, rows in store.rows.items()}
    for clip in dataset.clips:
        row = rows.get(clip.id)
        if row is None:
            continue
        if labels[row] != clip.label:
            return Check("list", False, f"clip '{clip.id}' ({clip.where}) has another class")
        if {split for split in store.splits if row in members[split]} != set(clip.splits):
            return Check("list", False, f"clip '{clip.id}' ({clip.where}) is in other splits")
    return Check("list", True, "the clips, their classes and splits are those of the dataset")


def _check_contents(store: FeatureStore, dataset: Dataset, workers: int, console: Console) -> list[Check]:
    rows = {name: row for row, name in enumerate(store.ids)}
    dtype = store.arrays["video"].dtype if "video" in store.arrays else np.float32
    faults: list[str] = []
    unreadable = 0
    with closing(Preparation(dataset, dtype).of_all(dataset.clips, workers)) as coming:
        for clip, future in track(coming, "clips", total=len(dataset.clips), console=console):
            try:
                fault = _difference(store, rows.get(clip.id), clip, future.result())
            except BadClip as bad:
                unreadable += 1
                fault = f"clip '{clip.id}': {bad}" if clip.id in rows else None
            if fault:
                faults.append(fault)
    if faults:
        return [Check("contents", False, f"{faults[0]}; {len(faults)} such clips")]
    said = f", {unreadable} that cannot be read are left out" if unreadable else ""
    return [Check("contents", True, f"{len(store):,} clips equal those of the dataset{said}")]


def _difference(store: FeatureStore, row: int | None, clip: Clip, ready: Ready) -> str | None:
    if row is None:
        return f"clip '{clip.id}' ({clip.where}) is missing"
    for name, array in ready.arrays.items():
        if name not in store.arrays or not np.array_equal(store.arrays[name][row], array):
            return f"{name} of clip '{clip.id}' is another"
    return None
