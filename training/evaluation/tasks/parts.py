"""Which clips of a feature store are for fitting and which for testing."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.data.store import FeatureStore
from training.evaluation.coder import Part

_FOR_FITTING = 0.7


def open_store(data: Path | None, name: str) -> FeatureStore:
    """The store `name` of the folder `data`.

    Raises:
        TrainingError: no folder is given, or it has no such store, or a damaged one.
    """
    if data is None:
        raise TrainingError(f"'{name}' is read from a feature store: say with --data where they are")
    return FeatureStore.load(data / name)


def whole(store: FeatureStore) -> Part:
    """Every clip, mapped."""
    return Part.whole(store.split())


def of_split(store: FeatureStore, split: str) -> Part:
    """The clips of a split, mapped.

    Raises:
        TrainingError: there is no such split.
    """
    if split not in store.rows:
        raise TrainingError(f"'{store.folder}' has no split '{split}'")
    return Part(store.split(), store.rows[split])


def sides(
    parts: Mapping[Modality, Part],
) -> tuple[dict[Modality, Part], dict[Modality, Part]]:
    """Clips for fitting, about seven tenths, and clips for testing, of each modality.

    A clip's name alone decides, so that it is on the same side in every store that it occurs in.

    Raises:
        TrainingError: there are too few clips for two sides.
    """
    fit: dict[Modality, Part] = {}
    test: dict[Modality, Part] = {}
    for modality, part in parts.items():
        chosen = np.array([is_for_fitting(name) for name in _names(part)])
        if chosen.all() or not chosen.any():
            raise TrainingError(f"{len(part)} clips are too few to fit on some and test on others")
        fit[modality] = Part(part.features, part.rows[chosen])
        test[modality] = Part(part.features, part.rows[~chosen])
    return fit, test


def without(part: Part, names: Collection[str]) -> Part:
    """The clips that are none of `names`."""
    kept = np.array([name not in names for name in _names(part)])
    return Part(part.features, part.rows[kept])


def names_of(part: Part) -> frozenset[str]:
    """Names of the clips."""
    return frozenset(_names(part))


def is_for_fitting(name: str) -> bool:
    """On which side a clip is: drawn by the hash of its name."""
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    return drawn < _FOR_FITTING


def _names(part: Part) -> list[str]:
    ids = part.features.ids
    if ids is None:
        raise TrainingError("the clips have no names to tell them by")
    return [ids[row] for row in part.rows]


def both(part: Part) -> dict[Modality, Part]:
    """The same clips for sound and picture."""
    return {"audio": part, "video": part}
