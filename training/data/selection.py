"""Some clips of a feature set by number: what a run trains on, and what a task fits on or tests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.data.features import FeatureSet

_BATCH = 100


@dataclass(frozen=True)
class Selection:
    """N clips of a feature set, which may be mapped from a disk and larger than memory.

    With `every_slot` the empty word slots of a text count as words, as released: there is no mask.
    """

    features: FeatureSet
    rows: NDArray[np.int64]
    every_slot: bool = False

    @classmethod
    def whole(cls, features: FeatureSet, every_slot: bool = False) -> Selection:
        """All clips."""
        return cls(features, np.arange(len(features)), every_slot)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: NDArray[np.bool_]) -> Selection:
        """Those of its clips that are `chosen` [N]."""
        return replace(self, rows=self.rows[chosen])

    @property
    def names(self) -> list[str]:
        """Name of each clip.

        Raises:
            TrainingError: the data does not say.
        """
        ids = self.features.ids
        if ids is None:
            raise TrainingError("the clips have no names to tell them by")
        return [ids[row] for row in self.rows]

    @property
    def labels(self) -> Tensor:
        """Class of each clip, i64 [N]."""
        return torch.from_numpy(np.array(self.features.labels[self.rows]))

    @property
    def cells(self) -> Tensor:
        """Which classes each second is of, background last, bool [N, T, C + 1].

        Raises:
            TrainingError: the data does not say.
        """
        if self.features.segments is None:
            raise TrainingError("the data has no classes of segments")
        return torch.from_numpy(np.array(self.features.segments[self.rows]))

    def width(self, modality: Modality) -> int:
        """Channels of the features of one modality.

        Raises:
            TrainingError: the data has no such modality.
        """
        array = getattr(self.features, modality)
        if array is None:
            raise TrainingError(f"the data has no {modality}")
        return int(array.shape[-1])

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The clips at `indices` i64 [B] of its own, as `FeatureSet.batch` gives them."""
        batch = self.features.batch(torch.from_numpy(self.rows)[indices])
        if self.every_slot:
            batch.pop("text_mask", None)
        return batch

    def batches(self, modality: Modality) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Features [B, T, ...] of one modality, and for text the mask of its words, bool [B, S], where there is one.

        Raises:
            TrainingError: the data has no such modality.
        """
        self.width(modality)
        alone = replace(self, features=self._alone(modality))
        for indices in torch.split(torch.arange(len(self)), _BATCH):
            batch = alone.batch(indices)
            yield batch[modality], batch.get("text_mask")

    def _alone(self, modality: Modality) -> FeatureSet:
        """The features without those of other modalities, so that these are not read."""
        every = self.features
        return replace(
            every,
            audio=every.audio if modality == "audio" else None,
            video=every.video if modality == "video" else None,
            text=every.text if modality == "text" else None,
            words=every.words if modality == "text" else None,
        )
