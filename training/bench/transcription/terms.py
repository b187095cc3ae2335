"""CLUB, contrastive prediction and InfoNCE as released (docs/models.md 3).

B batch, T segments, D width.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Club(nn.Module):
    """A Gaussian q(y | x)."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(*_perceptron(inputs, hidden, outputs))
        self.log_variance = nn.Sequential(*_perceptron(inputs, hidden, outputs), nn.Tanh())

    def likelihood_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The negative log-likelihood of [..., Y] given [..., X], up to a constant."""
        mean, log_variance = self.mean(x), self.log_variance(x)
        log_likelihood = (-((mean - y) ** 2) / torch.exp(log_variance) - log_variance) / 2
        return -torch.mean(torch.sum(log_likelihood, dim=-1))

    def bound(self, x: Tensor, y: Tensor, permutation: Tensor) -> Tensor:
        """Averages over the axis behind the batch's, which is time or, without one, channels; then sums up."""
        mean, log_variance = self.mean(x), self.log_variance(x)
        precision = torch.exp(-torch.mean(log_variance, dim=1))
        positive = -torch.mean((mean - y) ** 2, dim=1) * precision / 2
        negative = -torch.mean((mean - y[permutation]) ** 2, dim=1) * precision / 2
        return torch.mean(torch.sum(positive, dim=-1) - torch.sum(negative, dim=-1))


class Contrast(nn.Module):
    """Predicts each modality's next second from every modality's past."""

    def __init__(self, names: list[str], dim: int) -> None:
        super().__init__()
        self.context = nn.ModuleDict({n: nn.LSTM(dim, dim, 2, batch_first=True) for n in names})
        self.predict = nn.ModuleDict({n: nn.Linear(dim, dim) for n in names})

    def forward(self, latents: dict[str, Tensor], second: int) -> Tensor:
        """[B, T, D] by modality; the past ends with `second`."""
        guesses = {}
        for name, z in latents.items():
            state = z.new_zeros(2, len(z), z.shape[2])
            output, _ = self.context[name](z[:, : second + 1], (state, state.clone()))
            guesses[name] = self.predict[name](output[:, second])
        loss: Tensor = next(iter(guesses.values())).new_zeros(())
        for target_name, z in latents.items():
            for guess_name, guess in guesses.items():
                scores = torch.mm(z[:, second + 1], guess.t())
                term = -torch.mean(torch.diag(F.log_softmax(scores, dim=1)))
                loss = loss + (0.1 if target_name == guess_name else 1.0) * term
        return loss


def info_nce(query: Tensor, key: Tensor) -> Tensor:
    """[B, D] against [B, D], by cosine at temperature 0.1."""
    scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).t() / 0.1
    return F.cross_entropy(scores, torch.arange(len(query), device=query.device))


def _perceptron(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    widths = [inputs, hidden, hidden, hidden, outputs]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]
