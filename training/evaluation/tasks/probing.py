"""Tasks in which a logistic regression is fitted on one vector a clip: those of data that can be generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tessera.windows import MODALITIES, Modality
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.nuisance import Nuisance, nuisance_share
from training.evaluation.probe import Vectors, cross_modal_accuracy
from training.evaluation.tasks.task import Result, Settings, Task

Seen = Literal["embeddings", "histogram"]
"""What a probe sees of a clip: the mean of what its codes stand for, or how often it has each of them."""

_NOTE = "A logistic regression on the {seen} of a clip."
_NAMES: dict[Seen, str] = {"embeddings": "mean embedding", "histogram": "histogram of the codes"}
_SAME_CLIPS = "Tested on the clips that it was fitted on."


class ProbeTask(Task):
    """Clips of K equally frequent classes; with `nuisance` for both splits, also what codes give away of it.

    By protocol `paper` the clips for testing are fitted on too.
    """

    metric = "accuracy"

    def __init__(
        self,
        name: str,
        fit: FeatureSet,
        test: FeatureSet,
        classes: int,
        settings: Settings,
        nuisance: tuple[Nuisance, Nuisance] | None = None,
        seen: Seen = "embeddings",
    ) -> None:
        paper = settings.protocol == "paper"
        self.name, self.seen = name, seen
        self.fit, self.test = Selection.whole(test if paper else fit), Selection.whole(test)
        self.nuisance = nuisance and (nuisance[paper], nuisance[1])
        self.modalities = ()
        known = [m for m in MODALITIES if m in test.modalities]
        self.chance = {(source, target): 1 / classes for source in known for target in known}
        self.clips = {"fit": len(self.fit), "test": len(self.test)}
        self.caption = _NOTE.format(seen=_NAMES[seen]) + (f" {_SAME_CLIPS}" if paper else "")

    def asked_for(self) -> Iterable[tuple[Modality, Selection]]:
        """As `Task` says."""
        return [(m, part) for part in (self.fit, self.test) for m in part.features.modalities]

    def score(self, coder: Coder, seeds: int) -> Result:
        """As `Task` says; every modality of the coder takes part."""
        fit = {m: coder.encode(self.fit, m) for m in coder.modalities}
        test = {m: coder.encode(self.test, m) for m in coder.modalities}
        accuracies = cross_modal_accuracy(
            self._vectors(fit, coder.sizes),
            self.fit.labels.numpy(),
            self._vectors(test, coder.sizes),
            self.test.labels.numpy(),
        )
        outcome = {direction: {self.metric: value} for direction, value in accuracies.items()}
        return Result([outcome], test, True, coder.sizes, self._given_away(fit, test, coder.sizes))

    def _vectors(self, coded: Mapping[Modality, Coded], sizes: tuple[int, ...]) -> Vectors:
        return {m: self._vector(one, sizes) for m, one in coded.items()}

    def _vector(self, coded: Coded, sizes: tuple[int, ...]) -> NDArray[np.float32]:
        vectors = coded.pooled() if self.seen == "embeddings" else coded.histograms(sizes)
        array: NDArray[np.float32] = vectors.float().numpy()
        return array

    def _given_away(
        self, fit: Mapping[Modality, Coded], test: Mapping[Modality, Coded], sizes: tuple[int, ...]
    ) -> dict[Modality, float]:
        if self.nuisance is None:
            return {}
        fitted, tested = self.nuisance
        return {m: nuisance_share(fit[m], fitted[m], test[m], tested[m], sizes) for m in fit if m in fitted}
