"""Which clips of a feature store are for fitting and which for testing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.data.selection import Selection
from training.data.store import FeatureStore
from training.evaluation.tasks.task import Settings

_FOR_FITTING = 0.7


def open_store(data: Path | None, name: str) -> FeatureStore:
    """The store `name` of the folder `data`.

    Raises:
        TrainingError: no folder is given, or it has no such store, or a damaged one.
    """
    if data is None:
        raise TrainingError(f"'{name}' is read from a feature store: say with --data where they are")
    return FeatureStore.load(data / name)


def whole(store: FeatureStore, settings: Settings) -> Selection:
    """Every clip, mapped."""
    return Selection.whole(store.split(), settings.every_slot)


def of_split(store: FeatureStore, split: str, settings: Settings) -> Selection:
    """The clips of a split, mapped.

    Raises:
        TrainingError: there is no such split.
    """
    if split not in store.rows:
        raise TrainingError(f"'{store.folder}' has no split '{split}'")
    return Selection(store.split(), store.rows[split], settings.every_slot)


def sides(
    parts: Mapping[Modality, Selection], film: Callable[[str], str] = str
) -> tuple[dict[Modality, Selection], dict[Modality, Selection]]:
    """Clips for fitting, about seven tenths, and clips for testing, of each modality.

    A clip's name alone decides, so that it is on the same side in every store that it occurs in. Of data with several
    clips of one film, `film` makes the film's name of a clip's, and the film decides.

    Raises:
        TrainingError: there are too few clips for two sides.
    """
    fit: dict[Modality, Selection] = {}
    test: dict[Modality, Selection] = {}
    for modality, part in parts.items():
        chosen = np.array([is_for_fitting(film(name)) for name in part.names])
        if chosen.all() or not chosen.any():
            raise TrainingError(f"{len(part)} clips are too few to fit on some and test on others")
        fit[modality], test[modality] = part.where(chosen), part.where(~chosen)
    return fit, test


def without(part: Selection, names: Collection[str]) -> Selection:
    """The clips that are none of `names`.

    Raises:
        TrainingError: there are no others.
    """
    kept = np.array([name not in names for name in part.names])
    if not kept.any():
        raise TrainingError(f"all {len(part)} clips to test on are fitted on too: none is left")
    return part.where(kept)


def names_of(part: Selection) -> frozenset[str]:
    """Names of the clips."""
    return frozenset(part.names)


def is_for_fitting(name: str) -> bool:
    """On which side a clip is: drawn by the hash of its name."""
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    return drawn < _FOR_FITTING


def both(part: Selection) -> dict[Modality, Selection]:
    """The same clips for sound and picture."""
    return {"audio": part, "video": part}
