"""The linear probe across modalities: fit on the codes of one, test on the codes of another, on held-out clips."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tessera.windows import Modality

Vectors = Mapping[Modality, NDArray[np.float32]]
Direction = tuple[Modality, Modality]


@dataclass(frozen=True)
class Interval:
    """Mean and 95 % confidence half-width over seeds (Student's t); a single seed has no interval."""

    mean: float
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of at least one value."""
        count = len(values)
        if count < 2:
            return cls(float(np.mean(values)), None)
        spread = float(np.std(values, ddof=1)) / count**0.5
        return cls(float(np.mean(values)), float(stats.t.ppf(0.975, count - 1)) * spread)


def cross_modal_accuracy(
    fit: Vectors, fit_labels: NDArray[np.int64], test: Vectors, test_labels: NDArray[np.int64]
) -> dict[Direction, float]:
    """Accuracy of a logistic regression for every ordered pair of modalities, the same one included.

    `fit` and `test` hold one vector a clip, [N, D], for disjoint clips. The scale of each channel is taken from
    the fitted modality alone: nothing of the tested one is seen before the test.
    """
    accuracies: dict[Direction, float] = {}
    for source in fit:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2_000))
        probe.fit(fit[source], fit_labels)
        for target in test:
            accuracies[source, target] = float(probe.score(test[target], test_labels))
    return accuracies


def directions(modalities: Sequence[Modality]) -> list[Direction]:
    """Ordered pairs of different modalities."""
    return list(itertools.permutations(modalities, 2))
