"""What the backbones said of many clips, as plain arrays: in memory, or memory-mapped from one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality


@dataclass(frozen=True)
class FeatureSet:
    """Features of `N` clips of `T` segments; a modality that the data lacks is None.

    Texts have up to `S` word slots, words first, zeros after. `C` classes, `G` grid cells a side.

    Raises:
        TrainingError: the arrays are not of the same clips, or one of `text` and `words` is given alone.
    """

    audio: NDArray[np.float32] | None  # [N, T, Da]
    video: NDArray[np.floating[Any]] | None  # [N, T, G, G, Dv]
    text: NDArray[np.float32] | None  # [N, S, Dt]
    words: NDArray[np.int64] | None  # [N]: filled slots, given with text
    labels: NDArray[np.int64]  # [N]: class of the clip; -1 where it has none
    segments: NDArray[np.bool_] | None = None  # [N, T, C + 1]: classes of each second, background last
    ids: tuple[str, ...] | None = None  # names of the clips
    # Whose features they are said to be, where that is known.
    backbones: Mapping[Modality, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.text is None) != (self.words is None):
            raise TrainingError("text and the number of its words are given together, or neither")
        for name, values in {**self._arrays(), "ids": self.ids}.items():
            if values is not None and len(values) != len(self):
                raise TrainingError(f"{len(values)} rows of {name} do not fit {len(self)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that there are features of."""
        return tuple(m for m in MODALITIES if getattr(self, m) is not None)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The clips at `indices` i64 [B] as float32 tensors, by modality.

        With text comes `text_mask` bool [B, S]: True where a word is.
        """
        rows = indices.numpy()
        tensors: dict[str, Tensor] = {
            m: torch.from_numpy(np.asarray(getattr(self, m)[rows], dtype=np.float32)) for m in self.modalities
        }
        if self.text is not None and self.words is not None:
            words = torch.from_numpy(self.words[rows])
            tensors["text_mask"] = torch.arange(self.text.shape[1]) < words[:, None]
        return tensors

    def rows(self, indices: NDArray[np.int64]) -> Self:
        """The clips at `indices` i64 [B], in that order; a run of neighbours is a view, all else is a copy."""
        parts: dict[str, Any] = {name: take(array, indices) for name, array in self._arrays().items()}
        ids = None if self.ids is None else tuple(self.ids[i] for i in indices)
        return replace(self, **parts, ids=ids)

    def save(self, folder: Path) -> None:
        """Write one `.npy` an array, and the names of the clips as `ids.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        if self.ids is not None:
            (folder / "ids.json").write_text(json.dumps(self.ids))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote.

        Raises:
            TrainingError: an array is damaged, or nothing was saved there.
        """
        try:
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
                if name == "labels" or (folder / f"{name}.npy").exists()
            }
            names = folder / "ids.json"
            ids = tuple(json.loads(names.read_text())) if names.exists() else None
            return cls(**{**dict.fromkeys(_ARRAYS), **arrays, "ids": ids})
        except (OSError, ValueError, EOFError, TrainingError):
            raise TrainingError(f"'{folder}' holds no complete features; delete it and run again") from None

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return {name: array for name, array in arrays.items() if array is not None}


_ARRAYS = tuple(one.name for one in fields(FeatureSet) if one.name not in ("ids", "backbones"))


def take(array: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """`array[indices]`, without a copy where the rows are neighbours: a split of a store stays memory-mapped."""
    if len(indices) and indices[0] >= 0 and (np.diff(indices) == 1).all():
        return array[indices[0] : indices[-1] + 1]
    return array[indices]
