"""Retrieval: finding items of one modality by those of another, with ties counted fairly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.data.store import FeatureStore
from training.evaluation.coder import Coded, Coder
from training.evaluation.probe import Direction
from training.evaluation.ranking import ranked
from training.evaluation.tasks.parts import of_split, open_store, whole
from training.evaluation.tasks.task import Result, Settings, Task

Pair = tuple[Modality, Modality]
Items = NDArray[np.int64]

DATASETS: dict[str, tuple[Pair, ...]] = {
    "mscoco": (("video", "text"),),
    "clotho": (("audio", "text"),),
    "flickrsound": (("audio", "video"),),
    "msvd": (("video", "text"),),
    "valor32k": (("audio", "text"), ("video", "text")),
}
"""Which modalities look for each other, both ways."""

_TESTED = ("test", "evaluation")
"""What the split for testing is called; a store without one is tested on as a whole."""

_POOLED = "Cosine of the mean embeddings of the codes of segments, which is what an index searches by."
_CLIP_CODE = "Cosine of the embeddings of one code a clip, as released."


class Retrieval(Task):
    """The items of one data set, each with one text or several where there are texts.

    The share R@10 of the queries whose item is among the first ten is what the table is about; the figure of a data
    set is the mean of its directions. Nothing is fitted: by `held_out` a clip's vector is the mean over its segments,
    by `paper` the vector of its clip code. Where one text of several would do, the best ranked one counts.

    Raises:
        TrainingError: the data lacks a modality of `pairs`.
    """

    metric = "R@10"

    def __init__(
        self,
        name: str,
        parts: Mapping[Modality, Selection],
        items: Mapping[Modality, Items],
        pairs: tuple[Pair, ...],
        settings: Settings,
    ) -> None:
        self.name, self.parts, self.items = name, parts, items
        self.modalities = tuple(m for m in MODALITIES if m in set(itertools.chain(*pairs)))
        for modality in self.modalities:
            if modality not in parts or modality not in parts[modality].features.modalities:
                raise TrainingError(f"{name}: the data has no {modality}")
        self.directions: list[Direction] = [d for pair in pairs for d in (pair, pair[::-1])]
        self.paper = settings.protocol == "paper"
        nothing = {m: np.zeros((len(parts[m]), 1)) for m in self.modalities}
        self.chance = {d: self._figures(nothing, d)[self.metric] for d in self.directions}
        self.clips = {"fit": 0, "test": len(set(items[self.modalities[0]].tolist()))}
        self.caption = _CLIP_CODE if self.paper else _POOLED

    def asked_for(self) -> Iterable[tuple[Modality, Selection]]:
        """As `Task` says."""
        return [(m, self.parts[m]) for m in self.modalities]

    def score(self, coder: Coder, seeds: int) -> Result:
        """As `Task` says."""
        coded = {m: coder.encode(self.parts[m], m) for m in self.modalities}
        vectors = {m: self._vectors(coder, one, m) for m, one in coded.items()}
        outcome = {direction: self._figures(vectors, direction) for direction in self.directions}
        first, *others = (self.items[m] for m in self.modalities)
        paired = all(np.array_equal(first, one) for one in others)
        return Result([outcome], coded, paired, coder.sizes)

    def _vectors(self, coder: Coder, coded: Coded, modality: Modality) -> NDArray[np.float64]:
        part, exact = self.parts[modality], torch.float64
        vectors = coder.clip_vectors(part, modality) if self.paper else coded.pooled(exact)
        array: NDArray[np.float64] = vectors.numpy()
        return array

    def _figures(
        self, vectors: Mapping[Modality, NDArray[np.float64]], direction: Direction
    ) -> dict[str, float]:
        query, candidate = direction
        return ranked(vectors[query], vectors[candidate], self.items[query], self.items[candidate]).figures()


def open_retrieval(data: Path | None, settings: Settings, modalities: tuple[Modality, ...]) -> list[Task]:
    """Those of `DATASETS` that are in `data` and of which a model of `modalities` knows both sides of a pair.

    Raises:
        TrainingError: there is none, or one is damaged.
    """
    tasks: list[Task] = []
    for name, pairs in DATASETS.items():
        known = tuple(pair for pair in pairs if set(pair) <= set(modalities))
        if known and data is not None and (data / name).exists():
            tasks.append(_open(name, open_store(data, name), known, settings))
    if not tasks:
        where = "--data is not given" if data is None else f"'{data}' has none for {', '.join(modalities)}"
        raise TrainingError(f"retrieval needs one of the stores {', '.join(DATASETS)}: {where}")
    return tasks


def _open(name: str, store: FeatureStore, pairs: tuple[Pair, ...], settings: Settings) -> Task:
    split = next((split for split in _TESTED if split in store.splits), None)
    clips = whole(store, settings) if split is None else of_split(store, split, settings)
    parts: dict[Modality, Selection] = {"audio": clips, "video": clips}
    items: dict[Modality, Items] = {"audio": np.arange(len(clips)), "video": np.arange(len(clips))}
    if any("text" in pair for pair in pairs):
        text, words, items["text"] = store.captions(split)
        labels = np.full(len(text), -1)
        parts["text"] = Selection.whole(
            FeatureSet(None, None, text, words, labels, backbones=store.manifest.features),
            settings.every_slot,
        )
    return Retrieval(name, parts, items, pairs, settings)
