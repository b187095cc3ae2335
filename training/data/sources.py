"""Where the clips of a run come from: what the `data` part of a recipe names.

`world` is the generated world, `spiked` are the spiked events, `store` is a feature store on disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from tessera.errors import TrainingError
from training.data.features import FeatureSet
from training.data.generated import GeneratedData
from training.data.settings import parsed
from training.data.spiked import SpikedData
from training.data.store import FeatureStore


@dataclass(frozen=True)
class Clips:
    """Some clips of a feature set, by number. With `every_slot` their batches have no `text_mask`."""

    features: FeatureSet
    rows: NDArray[np.int64]
    every_slot: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The clips at `indices` i64 [B], as `FeatureSet.batch` gives them."""
        batch = self.features.batch(torch.from_numpy(self.rows)[indices])
        if self.every_slot:
            batch.pop("text_mask", None)
        return batch


class Source(ABC):
    """What a run is trained on."""

    @abstractmethod
    def training_clips(self, cache: Path) -> Clips:
        """Features of the clips to train on; what has to be made is made once, in `cache`."""

    def files(self) -> dict[str, str]:
        """What travels with a checkpoint beside its weights, by name."""
        return {}


@dataclass(frozen=True)
class _World(Source):
    data: GeneratedData

    def training_clips(self, cache: Path) -> Clips:
        return _all(self.data.features("train", self.data.tokenizer_json(), cache))

    def files(self) -> dict[str, str]:
        return {"tokenizer.json": self.data.tokenizer_json()}


@dataclass(frozen=True)
class _Spiked(Source):
    data: SpikedData

    def training_clips(self, cache: Path) -> Clips:
        return _all(self.data.features("train"))


class StoreSettings(BaseModel):
    """The folder `store` that `tessera data convert` or `tessera features` wrote; of its splits those listed, or all.

    `every_slot`: the empty word slots of a text count as words, as released.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: Path
    splits: tuple[str, ...] | None = None
    every_slot: bool = False


@dataclass(frozen=True)
class _Store(Source):
    settings: StoreSettings

    def training_clips(self, cache: Path) -> Clips:
        store, features = self._opened, self._opened.split()
        rows = np.arange(len(features))
        if self.settings.splits is not None:
            rows = np.unique(np.concatenate([store.split_rows(name) for name in self.settings.splits]))
        return Clips(features, rows, self.settings.every_slot)

    def files(self) -> dict[str, str]:
        tokenizer_json = self._opened.tokenizer_json
        return {} if tokenizer_json is None else {"tokenizer.json": tokenizer_json}

    @property
    def _opened(self) -> FeatureStore:
        return FeatureStore.load(self.settings.store)


def open_source(settings: Mapping[str, Any]) -> Source:
    """The source that the `data` part of a recipe names.

    Raises:
        TrainingError: it names none, or has a setting that is unknown or of the wrong type.
    """
    if "world" in settings:
        return _World(GeneratedData.of(settings))
    if "spiked" in settings:
        return _Spiked(SpikedData.of(settings))
    if "store" in settings:
        return _Store(parsed(StoreSettings, settings))
    raise TrainingError("the recipe names no data: give the folder of a feature store with --data")


def on_store(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The `data` part of a recipe on the feature store in `folder`: how a store is read stays, other data goes."""
    kept = {name: settings[name] for name in ("splits", "every_slot") if name in settings}
    return {"store": str(folder), **kept}


def _all(features: FeatureSet) -> Clips:
    return Clips(features, np.arange(len(features)))
