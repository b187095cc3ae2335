"""CLUB: an upper bound of the mutual information between a general and a specific vector (docs/models.md 3.2).

B batch, T segments, X width of the general vector, Y width of the specific one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.distributed import gather, world_size


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


def club_bound(net: ClubNet, x: Tensor, y: Tensor) -> Tensor:
    """The bound as the paper has it, for `x` [B, T, X] or [B, X] with `y` alike.

    Every clip of all processes is a negative, at the same segment (Xia et al. 2023, equation 5). Their squared
    distances average to that of their mean and their variance, so all of them cost no more than one.
    """
    mean, log_variance = net(x)
    negatives = gather(y)
    far = (mean - negatives.mean(dim=0)).square() + negatives.var(dim=0, correction=0)
    gap: Tensor = far - (mean - y).square()
    return (torch.exp(-log_variance) * gap).sum(dim=-1).mean() / 2


def released_club_bound(net: ClubNet, x: Tensor, y: Tensor, negatives: Tensor) -> Tensor:
    """The bound as released, for `x` [B, T, X] or [B, X]; `negatives`, of the shape of `y`, are `y` of other clips.

    The log variance is averaged over time before it is exponentiated. Of vectors that have no time axis it averages
    over channels where it should over time, and adds up the batch of all processes.
    """
    log_variance: Tensor
    mean, log_variance = net(x)
    gap: Tensor = (mean - negatives).square() - (mean - y).square()
    if x.dim() == 3:
        return (torch.exp(-log_variance.mean(dim=1)) * gap.mean(dim=1)).sum(dim=-1).mean() / 2
    bound: Tensor = (torch.exp(-log_variance.mean(dim=-1)) * gap.mean(dim=-1)).mean() / 2
    return bound * (len(x) * world_size())


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
