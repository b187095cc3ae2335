"""CMCM: modalities of one clip should spread over the codes alike (docs/models.md 2.5).

B clips of this process, N of all processes, T segments, K codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from training.distributed import gather
from training.losses.contrast import own_cross_entropy, products
from training.losses.variant import Variant


def code_matching_loss(squared_distances: Mapping[str, Tensor], variant: Variant = "intended") -> Tensor:
    """Half the sum over pairs of modalities of the cross entropy of their code matching scores.

    `squared_distances` [B, T, K] by modality, to every code. For each clip the clips of all processes are scored, in
    one direction as published. `paper` keeps the transposed half of the released score; its 1e-5 beside a sum of at
    least B is left out.
    """
    spreads = [_Spread.of(squared) for squared in squared_distances.values()]
    pairs = itertools.combinations(spreads, 2)
    return (
        sum((_pair_loss(left, right, variant) for left, right in pairs), spreads[0].own_BK.new_zeros(())) / 2
    )


@dataclass(frozen=True)
class _Spread:
    """How likely each code is to be that of a clip, for the clips of this process and of all."""

    own_BK: Tensor
    all_NK: Tensor

    @classmethod
    def of(cls, squared_BTK: Tensor) -> _Spread:
        # The gradient of a root has no bound at zero, which float32 reaches.
        distance_BTK = squared_BTK.clamp(min=1e-6).sqrt()
        own_BK = torch.softmax(-distance_BTK, dim=-1).mean(dim=1)
        return cls(own_BK, gather(own_BK))


def _pair_loss(left: _Spread, right: _Spread, variant: Variant) -> Tensor:
    forth_BN = products(left.own_BK, _log(right.all_NK))
    if variant == "paper":
        back_BN = products(right.own_BK, _log(left.all_NK))
    else:
        back_BN = products(_log(left.own_BK), right.all_NK)
    return own_cross_entropy(forth_BN + back_BN)


def _log(spread: Tensor) -> Tensor:
    return torch.log(spread + 1e-10)
