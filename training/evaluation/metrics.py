"""Accuracy of clips, and precision, recall and F1 of segments: as released, and as one would expect."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

_RELEASED_BATCH = 80


@dataclass(frozen=True)
class Detection:
    """Precision, recall and their harmonic mean, each zero where it is of nothing."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both > 0 else 0.0

    def figures(self) -> dict[str, float]:
        """All three by name."""
        return {**asdict(self), "f1": self.f1}


def accuracy(scores_NC: Tensor, classes_N: Tensor) -> float:
    """Share of the clips whose class has the highest score."""
    return float((scores_NC.argmax(dim=1) == classes_N).double().mean())


def micro(predicted: Tensor, cells: Tensor) -> Detection:
    """Over all cells (clip, segment, class) at once, bool [N, T, C] both; background is a class like others."""
    right = float((predicted & cells).sum())
    return Detection(_ratio(right, float(predicted.sum())), _ratio(right, float(cells.sum())))


def batch_averaged(predicted: Tensor, cells: Tensor, batch_size: int = _RELEASED_BATCH) -> Detection:
    """As the released scripts count: `micro` of each batch, averaged by the sizes of the batches.

    A batch in which nothing is predicted has a precision and a recall of zero; F1 is that of the averages.
    """
    parts = [
        (micro(some, true), len(some))
        for some, true in zip(torch.split(predicted, batch_size), torch.split(cells, batch_size), strict=True)
    ]
    clips = sum(size for _, size in parts)
    return Detection(
        sum(one.precision * size for one, size in parts) / clips,
        sum(one.recall * size for one, size in parts) / clips,
    )


def commonest_class_accuracy(fit: Tensor, test: Tensor) -> float:
    """What always saying the commonest class of the clips for fitting scores; classes i64 [N]."""
    return float((test == torch.bincount(fit).argmax()).double().mean())


def constant_guess(fit: Tensor) -> Tensor:
    """The set of classes, bool [C], that is best said of every segment if one knows no more than `fit` [N, T, C].

    Classes enter by how often they are on, as long as that raises F1; segments are mostly background.
    """
    share_C = fit.flatten(0, 1).double().mean(dim=0)
    order = torch.argsort(share_C, descending=True, stable=True)
    hits = torch.cumsum(share_C[order], dim=0)
    said = torch.arange(1, len(order) + 1, dtype=torch.float64)
    f1 = 2 * hits / (said + share_C.sum())
    best = int(np.argmax(f1.numpy()))
    guess = torch.zeros(len(order), dtype=torch.bool)
    guess[order[: best + 1]] = True
    return guess


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
