"""How often modalities say the same of a clip."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from training.distributed import all_reduce_sum


def agreement(codes: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of the clips of the whole batch whose most frequent first-level code is the same, for each pair.

    `codes` are i64 [B, T, L] by modality. Source: docs/models.md 2.6.
    """
    commonest = {name: index[..., 0].mode(dim=1).values for name, index in codes.items()}
    pairs = list(itertools.combinations(sorted(commonest), 2))
    equal = torch.stack([(commonest[left] == commonest[right]).sum() for left, right in pairs])
    clips = torch.tensor(len(next(iter(commonest.values()))), device=equal.device)
    all_reduce_sum(equal, clips)
    shares: list[float] = (equal / clips).tolist()
    return {f"agreement/{left}_{right}": share for (left, right), share in zip(pairs, shares, strict=True)}
