"""CMCM: modalities of one clip should spread over the codes alike (docs/fcid.md 2.5).

B batch, T segments, K codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Matching = Literal["intended", "paper"]


def code_matching_loss(squared_distances: Mapping[str, Tensor], matching: Matching = "intended") -> Tensor:
    """Half the sum over pairs of modalities of the cross entropy of their code matching scores.

    `squared_distances` [B, T, K] by modality, to every code. Rows of the score are normalised, one direction
    as published. `paper` keeps the transposed half of the released score; its 1e-5 beside a sum of at least B
    is left out.
    """
    spreads = {name: _spread(squared) for name, squared in squared_distances.items()}
    loss = torch.zeros(())
    for left, right in itertools.combinations(spreads.values(), 2):
        loss = loss + _pair_loss(left, right, matching)
    return loss / 2


def _spread(squared_BTK: Tensor) -> Tensor:
    # The gradient of a root has no bound at zero, which float32 reaches.
    distance_BTK = squared_BTK.clamp(min=1e-6).sqrt()
    return torch.softmax(-distance_BTK, dim=-1).mean(dim=1)


def _pair_loss(left_BK: Tensor, right_BK: Tensor, matching: Matching) -> Tensor:
    forth_BB = left_BK @ torch.log(right_BK + 1e-10).T
    back_BB = right_BK @ torch.log(left_BK + 1e-10).T
    score_BB = forth_BB + (back_BB if matching == "paper" else back_BB.T)
    return F.cross_entropy(score_BB, torch.arange(len(score_BB), device=score_BB.device))
