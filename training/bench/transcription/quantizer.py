"""The codebook of three modalities as released: one modality moves it after the other (docs/models.md 2).

B batch, T segments, P = B * T positions, D width, K codes.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY, EPSILON, BETA = 0.99, 1e-5, 0.25
RESET_AFTER, ACTIVE = 300, 100


@dataclass
class Quantized:
    """Straight-through vectors and commitment losses by modality, and the loss of code matching."""

    vectors: dict[str, Tensor]
    commitment: dict[str, Tensor]
    matching: Tensor


class Quantizer(nn.Module):
    """Nearest codes, exponential moving averages mixed over modalities, and a counter of unused passes."""

    embedding: Tensor
    weight: Tensor
    count: Tensor
    unused: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("embedding", torch.empty(size, dim).uniform_(-1 / size, 1 / size))
        self.register_buffer("weight", self.embedding.clone())
        self.register_buffer("count", torch.zeros(size))
        self.register_buffer("unused", torch.full((size,), -1.0))

    def forward(self, latents: dict[str, Tensor]) -> Quantized:
        """[B, T, D] by modality, in the order in which they move the codebook."""
        codes, rows, spreads = {}, {}, {}
        for name, z in latents.items():
            squared = self._squared_distances(z)
            codes[name] = squared.detach().argmin(dim=-1)
            rows[name] = F.embedding(codes[name], self.embedding)
            spreads[name] = torch.softmax(-torch.sqrt(squared), dim=-1).mean(dim=1)
        if self.training:
            self._move(latents, codes)
        self._count_and_reset(codes)
        return Quantized(
            vectors={name: z + (rows[name] - z).detach() for name, z in latents.items()},
            commitment={name: _commitment(name, z, rows) for name, z in latents.items()},
            matching=0.5 * sum_of([_matching(x, y) for x, y in itertools.combinations(spreads.values(), 2)]),
        )

    def _squared_distances(self, z: Tensor) -> Tensor:
        flat = z.reshape(-1, z.shape[-1])
        squares = torch.sum(self.embedding**2, dim=1) + torch.sum(flat**2, dim=1, keepdim=True)
        squared = torch.addmm(squares, flat, self.embedding.t(), alpha=-2.0, beta=1.0)
        return squared.reshape(*z.shape[:-1], self.size)

    @torch.no_grad()
    def _move(self, latents: dict[str, Tensor], codes: dict[str, Tensor]) -> None:
        flat = {name: z.reshape(-1, z.shape[-1]) for name, z in latents.items()}
        for name in latents:
            one_hot = F.one_hot(codes[name].flatten(), self.size).to(self.embedding.dtype)
            self.count = DECAY * self.count + (1 - DECAY) * torch.sum(one_hot, dim=0)
            total = torch.sum(self.count)
            self.count = (self.count + EPSILON) / (total + self.size * EPSILON) * total
            others = [z for other, z in flat.items() if other != name]
            moved = 0.5 * torch.matmul(one_hot.t(), flat[name])
            for other in others:
                moved = moved + 0.5 / len(others) * torch.matmul(one_hot.t(), other)
            self.weight = DECAY * self.weight + (1 - DECAY) * moved
            self.embedding = self.weight / self.count.unsqueeze(1)

    @torch.no_grad()
    def _count_and_reset(self, codes: dict[str, Tensor]) -> None:
        self.unused = self.unused + 1
        for used in codes.values():
            for code in used.flatten():
                self.unused[code.item()] = 0
        active = [code for code in range(self.size) if 0 <= self.unused[code] < ACTIVE]
        table = self.embedding.clone()
        for code in range(self.size):
            if self.unused[code] > RESET_AFTER:
                self.unused[code] = 0
                noise = torch.empty_like(table[code]).uniform_(-1 / 1024, 1 / 1024)
                table[code] = table[random.choice(active)] + noise
        self.embedding = table


def _commitment(name: str, z: Tensor, rows: dict[str, Tensor]) -> Tensor:
    others = [row for other, row in rows.items() if other != name]
    loss = 2 * BETA * F.mse_loss(z, rows[name].detach())
    for row in others:
        loss = loss + BETA / len(others) * F.mse_loss(z, row.detach())
    return loss


def _matching(left: Tensor, right: Tensor) -> Tensor:
    """Of the spreads [B, K] of two modalities over the codes."""
    score = left @ torch.log(right.t() + 1e-10) + right @ torch.log(left.t() + 1e-10)
    exponential = torch.exp(score + torch.max(-score))
    sums = torch.sum(exponential, dim=1)
    loss = score.new_zeros(())
    for clip in range(len(score)):
        loss = loss - torch.log(exponential[clip, clip] / (sums[clip] + EPSILON))
    return loss / len(score)


def sum_of(terms: list[Tensor]) -> Tensor:
    """One after the other."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
