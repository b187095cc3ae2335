"""TOC: which channels of a codebook to keep, without training (docs/fcid.md 4).

A channel is useful when codes differ in it (variance) and do not share it (similarity).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.errors import TrainingError


def channel_scores(codebook: Tensor, *, lambda_: float = 0.3) -> Tensor:
    """U = lambda V - (1 - lambda) S for each channel of `codebook` [K, D], in float64.

    V is the unbiased variance over codes; S the mean of e_i e_j over ordered pairs i != j, in closed form
    mean^2 - V / K. `lambda_` 0 ranks by similarity alone.
    """
    codes = codebook.detach().double()
    variance = codes.var(dim=0, correction=1)
    similarity = codes.mean(dim=0).square() - variance / len(codes)
    return lambda_ * variance - (1 - lambda_) * similarity


def select_channels(
    codebook: Tensor, keep: int, *, lambda_: float = 0.3, ratio: tuple[int, int] = (1, 0)
) -> list[int]:
    """The channels to keep, in ascending order; all of them switch TOC off.

    Of `keep` channels, `ratio` says how many are those of the highest and of the lowest score. The published
    method takes the highest alone; (1, 1) and (3, 1) are settings of the released scripts, whose division
    rounds down, so that fewer than `keep` may be kept.

    Raises:
        TrainingError: `keep` is not between 1 and the width of the codebook, or `ratio` keeps nothing.
    """
    dim = codebook.shape[1]
    if not 1 <= keep <= dim:
        raise TrainingError(f"TOC can keep 1 to {dim} channels of this codebook, not {keep}")
    if min(ratio) < 0 or not 0 < sum(ratio) <= keep:
        raise TrainingError(f"a TOC ratio of {ratio[0]}:{ratio[1]} cannot share out {keep} channels")
    highest, lowest = (keep // sum(ratio) * part for part in ratio)
    order = torch.argsort(channel_scores(codebook, lambda_=lambda_), descending=True, stable=True).tolist()
    return sorted(order[:highest] + order[dim - lowest :])
