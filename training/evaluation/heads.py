"""The small heads that the papers fit on codes, and the losses that they are fitted with.

Both heads are two linear maps with nothing between them, as released. B clips, T segments, D channels, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClipHead(nn.Module):
    """One class a clip: a linear map of each segment, the maximum over time, and the scores of the classes."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.event_classifier = nn.Linear(dim, classes)

    def forward(self, vectors_BTD: Tensor) -> Tensor:
        """[B, T, D] -> scores [B, C]."""
        strongest_BD = self.linear(vectors_BTD).amax(dim=1)
        scores_BC: Tensor = self.event_classifier(strongest_BD)
        return scores_BC


class SegmentHead(nn.Module):
    """Any number of classes a segment, each segment by itself."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.event_classifier = nn.Linear(dim, classes)

    def forward(self, vectors_BTD: Tensor) -> Tensor:
        """[B, T, D] -> scores [B, T, C]."""
        scores_BTC: Tensor = self.event_classifier(self.linear(vectors_BTD))
        return scores_BTC


class ClassLoss(nn.Module):
    """Cross entropy of the class of a clip."""

    def forward(self, scores_BC: Tensor, classes_B: Tensor) -> Tensor:
        """Scores [B, C] and classes i64 [B] -> the mean over clips."""
        return F.cross_entropy(scores_BC, classes_B)


class EventLoss(nn.Module):
    """Binary cross entropy of every cell plus the exp-log loss, whose weights exp(-alpha) of the classes are learnt.

    EL = - mean over segments of sum_c y_c exp(-alpha_c) log softmax(scores)_c; `alpha` starts at 0.1 and, its
    gradient having one sign, only grows.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((classes,), 0.1))

    def forward(self, scores_BTC: Tensor, cells_BTC: Tensor) -> Tensor:
        """Scores and cells, which class is on in which segment, [B, T, C] -> the loss."""
        cells = cells_BTC.to(scores_BTC.dtype)
        exp_log = -(cells * torch.exp(-self.alpha) * F.log_softmax(scores_BTC, dim=-1)).sum(dim=-1).mean()
        return F.binary_cross_entropy_with_logits(scores_BTC, cells) + exp_log
