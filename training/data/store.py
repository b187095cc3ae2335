"""A feature store: one dataset in one folder, checked when it is opened and read memory-mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tessera.errors import TrainingError
from training.data.features import FeatureSet, take
from training.data.store_manifest import StoreManifest

Captions = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class FeatureStore:
    """What `StoreWriter` wrote.

    `store.json` (the manifest), `ids.json`, one `.npy` an array (`audio`, `video`, `text`, `words`, `labels`,
    `segments`; shapes as in `FeatureSet`), `splits/<name>.npy` (row numbers), and where texts are not one a clip,
    `text_item.npy`: the clip of each.
    """

    folder: Path
    manifest: StoreManifest
    ids: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]
    rows: dict[str, NDArray[np.int64]]  # by split
    items: NDArray[np.int64]  # [M]: the clip of each text

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self.manifest.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, without background."""
        return self.manifest.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self.manifest.splits

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map a store. Shapes and types are checked here; `tessera data verify` reads every number.

        Raises:
            TrainingError: there is none, or a part is missing or damaged; the message names it.
        """
        manifest = _manifest(folder)
        ids = _ids(folder / "ids.json", manifest.count)
        arrays = {name: _array(folder, name, manifest) for name in manifest.arrays}
        if "labels" not in arrays:
            raise _damaged(folder / "labels.npy")
        rows = {name: _indices(folder / "splits" / f"{name}.npy", manifest.count) for name in manifest.splits}
        items = np.arange(manifest.count)
        if (path := folder / "text_item.npy").exists():
            items = _indices(path, manifest.count)
        if "text" in arrays and len(items) != len(arrays["text"]):
            raise TrainingError(f"'{folder}' has {len(arrays['text'])} texts of {len(items)} clips")
        return cls(folder, manifest, ids, arrays, rows, items)

    def split(self, name: str | None = None) -> FeatureSet:
        """The clips of a split, None for every clip: views of the files where the rows are neighbours.

        The text of a clip with several captions is its first one.

        Raises:
            TrainingError: there is no such split.
        """
        rows = self.split_rows(name)
        first = np.unique(self.items, return_index=True)[1][rows]

        def part(kind: str) -> NDArray[Any] | None:
            array = self.arrays.get(kind)
            return None if array is None else take(array, first if kind in ("text", "words") else rows)

        return FeatureSet(
            audio=part("audio"),
            video=part("video"),
            text=part("text"),
            words=part("words"),
            labels=take(self.arrays["labels"], rows),
            segments=part("segments"),
            ids=tuple(self.ids[row] for row in rows),
            backbones=self.manifest.features,
        )

    def captions(self, split: str | None = None) -> Captions:
        """Every caption: text [M, S, Dt], words [M] and item [M], the row in `split(split)` that each belongs to.

        Raises:
            TrainingError: there is no such split, or the store has no text.
        """
        if "text" not in self.arrays:
            raise TrainingError(f"'{self.folder}' has no captions")
        rows = self.split_rows(split)
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        chosen = np.flatnonzero(place[self.items] >= 0)
        return (
            take(self.arrays["text"], chosen),
            take(self.arrays["words"], chosen),
            place[self.items[chosen]],
        )

    @property
    def tokenizer_json(self) -> str | None:
        """The tokeniser that the texts went through, where the backbone was ours."""
        path = self.folder / "tokenizer.json"
        return path.read_text() if path.exists() else None

    def split_rows(self, split: str | None = None) -> NDArray[np.int64]:
        """The rows of a split, None for every row.

        Raises:
            TrainingError: there is no such split.
        """
        if split is None:
            return np.arange(len(self))
        if split not in self.rows:
            found = ", ".join(self.splits) or "none"
            raise TrainingError(f"'{self.folder}' has no split '{split}'; it has: {found}")
        return self.rows[split]


def _manifest(folder: Path) -> StoreManifest:
    path = folder / "store.json"
    if not path.is_file():
        raise TrainingError(f"'{folder}' is no feature store: it has no store.json")
    try:
        return StoreManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise TrainingError(
            f"'{path}' is damaged, or of another version: {where} is not as expected"
        ) from None


def _ids(path: Path, count: int) -> tuple[str, ...]:
    try:
        ids = json.loads(path.read_text())
    except (OSError, ValueError):
        raise _damaged(path) from None
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise _damaged(path)
    if len(ids) != count or len(set(ids)) != count:
        raise TrainingError(f"'{path}' names {len(set(ids))} different clips, expected {count}")
    return tuple(ids)


def _array(folder: Path, name: str, manifest: StoreManifest) -> NDArray[Any]:
    path, expected = folder / f"{name}.npy", manifest.arrays[name]
    array = _mapped(path)
    if array.shape != expected.shape or str(array.dtype) != expected.dtype:
        raise TrainingError(
            f"'{path}' is {list(array.shape)} of {array.dtype}, "
            f"store.json says {list(expected.shape)} of {expected.dtype}"
        )
    if name not in ("text", "words") and len(array) != manifest.count:
        raise TrainingError(f"'{path}' has {len(array)} rows for {manifest.count} clips")
    return array


def _indices(path: Path, count: int) -> NDArray[np.int64]:
    rows = np.array(_mapped(path))
    if (
        rows.dtype != np.int64
        or rows.ndim != 1
        or (rows.size and not (0 <= rows.min() <= rows.max() < count))
    ):
        raise TrainingError(f"'{path}' does not name rows 0 to {count - 1}")
    return rows


def _mapped(path: Path) -> NDArray[Any]:
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise _damaged(path) from None
    return mapped


def _damaged(path: Path) -> TrainingError:
    return TrainingError(f"'{path}' is missing or damaged; convert the dataset again")
