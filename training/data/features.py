"""A feature store: what the backbones said of many clips, as plain arrays in one folder, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.errors import TrainingError


@dataclass(frozen=True)
class FeatureSet:
    """Features of `N` clips of `T` segments; texts have up to `S` word slots, words first, zeros after."""

    audio: NDArray[np.float32]  # [N, T, Da]
    video: NDArray[np.float16]  # [N, T, G, G, C]
    text: NDArray[np.float32]  # [N, S, Dt]
    words: NDArray[np.int64]  # [N]: filled slots
    labels: NDArray[np.int64]  # [N]: the primary event

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The clips at `indices` i64 [B] as tensors, with `text_mask` bool [B, S]: True where a word is."""
        rows = indices.numpy()
        words = torch.from_numpy(self.words[rows])
        return {
            "audio": torch.from_numpy(self.audio[rows]),
            "video": torch.from_numpy(self.video[rows]).to(torch.float32),
            "text": torch.from_numpy(self.text[rows]),
            "text_mask": torch.arange(self.text.shape[1]) < words[:, None],
        }

    def save(self, folder: Path) -> None:
        """Write one `.npy` an array."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote.

        Raises:
            TrainingError: an array is missing or damaged.
        """
        try:
            return cls(
                **{
                    field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False)
                    for field in fields(cls)
                }
            )
        except (OSError, ValueError, EOFError):
            raise TrainingError(
                f"'{folder}' is not a complete feature store; delete it and run again"
            ) from None

    def _arrays(self) -> Mapping[str, NDArray[np.generic]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
