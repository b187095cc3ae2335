"""CLUB: an upper bound of the mutual information between a general and a specific vector (docs/fcid.md 3.2).

B batch, T segments, X width of the general vector, Y width of the specific one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Reduction = Literal["intended", "paper"]


class ClubNet(nn.Module):
    """A Gaussian q(y | x): one perceptron for the mean, one for the logarithm of the variance in (-1, 1)."""

    def __init__(self, x_dim: int, y_dim: int, hidden: int) -> None:
        super().__init__()
        self.mean = _perceptron(x_dim, hidden, y_dim)
        self.log_variance = nn.Sequential(_perceptron(x_dim, hidden, y_dim), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., X] -> mean and log variance, [..., Y]."""
        return self.mean(x), self.log_variance(x)


def club_likelihood_loss(net: ClubNet, x: Tensor, y: Tensor) -> Tensor:
    """Negative log-likelihood of `y` [..., Y] given `x` [..., X], up to a constant, mean over positions."""
    mean, log_variance = net(x)
    surprise: Tensor = (mean - y).square() * torch.exp(-log_variance) + log_variance
    return surprise.sum(dim=-1).mean() / 2


def club_bound(
    net: ClubNet, x: Tensor, y: Tensor, permutation: Tensor, reduction: Reduction = "intended"
) -> Tensor:
    """The bound for `x` [B, T, X] or [B, X] and `y` alike, negatives from `permutation` i64 [B] of the batch.

    The log variance is averaged over time before it is exponentiated. `paper` keeps what the released code
    does with vectors that have no time axis: it averages over channels where it should over time, and adds up
    the batch.
    """
    log_variance: Tensor
    mean, log_variance = net(x)
    gap: Tensor = (mean - y[permutation]).square() - (mean - y).square()
    if x.dim() == 2 and reduction == "paper":
        return (torch.exp(-log_variance.mean(dim=-1)) * gap.mean(dim=-1)).sum() / 2
    if x.dim() == 3:
        log_variance, gap = log_variance.mean(dim=1), gap.mean(dim=1)
    return (torch.exp(-log_variance) * gap).sum(dim=-1).mean() / 2


def _perceptron(x_dim: int, hidden: int, y_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(x_dim, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, y_dim),
    )
