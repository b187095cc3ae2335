"""A store of five clips with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data.store import FeatureStore
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter

FACTS = StoreFacts(name="mine", task="classification", classes=("dog", "cat"), features={"audio": "VGGish"})
RNG = np.random.default_rng(0)
AUDIO = RNG.normal(size=(5, 10, 128)).astype(np.float32)
VIDEO = RNG.random((5, 10, 2, 2, 3)).astype(np.float16)
TEXT = RNG.normal(size=(7, 4, 6)).astype(np.float32)
WORDS = np.array([1, 2, 3, 4, 1, 2, 3])
ITEMS = [0, 0, 1, 2, 3, 4, 4]
IDS = ("a", "b", "c", "d", "e")


def write(target: Path, *, items: list[int] | None = ITEMS) -> FeatureStore:
    """Five clips in two appends, with more texts than clips or one each."""
    with StoreWriter(target, FACTS) as writer:
        writer.append(IDS[:3], [0, 1, 0], audio=AUDIO[:3], video=VIDEO[:3])
        writer.append(IDS[3:], [1, -1], audio=AUDIO[3:], video=VIDEO[3:])
        count = 5 if items is None else 7
        writer.append_text(TEXT[:count], WORDS[:count], items)
        writer.add_split("train", np.array([0, 1, 2]))
        writer.add_split("odd", np.array([3, 1]))
        writer.sources["list.csv"] = "00"
        writer.notes["left out"] = "nothing"
    return FeatureStore.load(target)
