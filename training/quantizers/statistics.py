"""What the vectors assigned to each code add up to, and k-means, which is made of nothing else.

P positions, K codes, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.distributed import all_reduce_sum


def squared_distances(latents: Tensor, table: Tensor) -> Tensor:
    """Squared Euclidean distances [..., K] of `latents` [..., D] to the rows of `table` [K, D], in its type.

    By the expanded form: next to a row rounding can bring them a little below zero.
    """
    latents = latents.to(table.dtype)
    squares = latents.square().sum(-1, keepdim=True) + table.square().sum(-1)
    return squares - 2 * (latents @ table.T)


def count_and_sum(codes: Tensor, vectors: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many of `vectors` [..., P, D] have each of `codes` [..., P], [..., K], and their sums [..., K, D].

    Of this process alone. Sums of products, unlike scattered additions, come out alike every time on a GPU.
    """
    one_hot = (codes.unsqueeze(-1) == torch.arange(size, device=codes.device)).to(vectors.dtype)
    return one_hot.sum(dim=-2), one_hot.transpose(-1, -2) @ vectors


def refine(rows_KD: Tensor, vectors_PD: Tensor, iterations: int = 10) -> Tensor:
    """Lloyd's iterations on the vectors of all processes; a row that no vector is nearest to stays where it is."""
    for _ in range(iterations):
        codes_P = squared_distances(vectors_PD, rows_KD).argmin(dim=-1)
        counts_K, sums_KD = count_and_sum(codes_P, vectors_PD, len(rows_KD))
        all_reduce_sum(counts_K, sums_KD)
        means_KD = sums_KD / counts_K.clamp(min=1).unsqueeze(-1)
        rows_KD = torch.where(counts_K.unsqueeze(-1) > 0, means_KD, rows_KD)
    return rows_KD
