"""Cross-modal contrastive predictive coding: the past of one modality foretells the next of another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAME_MODALITY_WEIGHT = 0.1


class Predictor(nn.Module):
    """A two-layer LSTM over the past and a linear guess at the next segment."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context = nn.LSTM(dim, dim, num_layers=2, batch_first=True)
        self.predict = nn.Linear(dim, dim)

    def forward(self, past: Tensor) -> Tensor:
        """[batch, time, dim] -> a guess at the segment after the last, [batch, dim]."""
        guess: Tensor = self.predict(self.context(past)[0][:, -1])
        return guess


def cross_cpc_loss(targets: Mapping[str, Tensor], guesses: Mapping[str, Tensor]) -> Tensor:
    """Sum over all ordered pairs of the cross entropy of picking the right clip's guess (docs/fcid.md 3.3).

    `targets` and `guesses` are [batch, dim] by modality. The other clips' guesses are the negatives.
    """
    loss = torch.zeros(())
    for target_name, target in targets.items():
        clip = torch.arange(len(target), device=target.device)
        for guess_name, guess in guesses.items():
            weight = SAME_MODALITY_WEIGHT if target_name == guess_name else 1.0
            loss = loss + weight * F.cross_entropy(target @ guess.T, clip)
    return loss
