"""Where the clips of a run come from: what the `data` part of a recipe names.

`world` is the generated world, `spiked` are the spiked events, `store` is a feature store on disk.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tessera.errors import TrainingError
from training.data.generated import GeneratedData
from training.data.selection import Selection
from training.data.settings import parsed
from training.data.spiked import SpikedData
from training.data.store import FeatureStore

FEATURES = "features.json"
"""Beside a checkpoint: by modality, the backbone whose features it was trained on."""


class Source(ABC):
    """What a run is trained on."""

    @abstractmethod
    def training_clips(self, cache: Path) -> Selection:
        """Features of the clips to train on; what has to be made is made once, in `cache`."""

    def files(self) -> dict[str, str]:
        """What travels with a checkpoint beside its weights, by name: equal files are of equal data."""
        return {}


@dataclass(frozen=True)
class _World(Source):
    data: GeneratedData

    def training_clips(self, cache: Path) -> Selection:
        return Selection.whole(self.data.features("train", self.data.tokenizer_json(), cache))

    def files(self) -> dict[str, str]:
        return {"tokenizer.json": self.data.tokenizer_json()}


@dataclass(frozen=True)
class _Spiked(Source):
    data: SpikedData

    def training_clips(self, cache: Path) -> Selection:
        return Selection.whole(self.data.features("train"))


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

    def training_clips(self, cache: Path) -> Selection:
        store, features = self._opened, self._opened.split()
        rows = np.arange(len(features))
        if self.settings.splits is not None:
            rows = np.unique(np.concatenate([store.split_rows(name) for name in self.settings.splits]))
        return Selection(features, rows, self.settings.every_slot)

    def files(self) -> dict[str, str]:
        store = self._opened
        arrays = {name: array.sha256 for name, array in sorted(store.manifest.arrays.items())}
        files = {
            "data.json": json.dumps({"name": store.name, "sha256": arrays}, indent=1) + "\n",
            FEATURES: json.dumps(store.manifest.features, indent=1) + "\n",
        }
        tokenizer_json = store.tokenizer_json
        return files if tokenizer_json is None else {**files, "tokenizer.json": tokenizer_json}

    @property
    def _opened(self) -> FeatureStore:
        return FeatureStore.load(self.settings.store)


def trained_on(checkpoint: Path) -> dict[str, str]:
    """By modality, the backbone whose features the model of a checkpoint was trained on, where it says so.

    Raises:
        TrainingError: what it says cannot be read.
    """
    try:
        return TypeAdapter(dict[str, str]).validate_json((checkpoint / FEATURES).read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise TrainingError(f"'{checkpoint / FEATURES}' is damaged") from None


def open_source(settings: Mapping[str, Any]) -> Source:
    """The source that the `data` part of a recipe names.

    Raises:
        TrainingError: it names none or several, or has a setting that is unknown or of the wrong type.
    """
    named = [name for name in ("world", "spiked", "store") if name in settings]
    if len(named) > 1:
        raise TrainingError(
            f"the recipe names {' and '.join(named)}, and a run has data of one kind: a recipe keeps the data of its "
            "base; give a feature store with --data, or take a recipe without that base"
        )
    if "world" in settings:
        return _World(GeneratedData.of(settings))
    if "spiked" in settings:
        return _Spiked(SpikedData.of(settings))
    if "store" in settings:
        return _Store(parsed(StoreSettings, settings))
    raise TrainingError("the recipe names no data: give the folder of a feature store with --data")


def counts_every_slot(settings: Mapping[str, Any]) -> bool:
    """Whether a model of a recipe with this `data` part learnt from empty word slots too.

    Raises:
        TrainingError: the setting is of the wrong type.
    """
    return parsed(bool, settings.get("every_slot", False), "every_slot")


def on_store(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The `data` part of a recipe on the feature store in `folder`: how a store is read stays, other data goes."""
    kept = {name: settings[name] for name in ("splits", "every_slot") if name in settings}
    return {"store": str(folder), **kept}
