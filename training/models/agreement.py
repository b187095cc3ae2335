"""How often modalities say the same of a clip."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from training.distributed import all_reduce_sum


def agreement(codes: Mapping[str, Tensor]) -> dict[str, float]:
    """`agreement_shares` of a batch, by the names of the logs."""
    shares = agreement_shares({name: codes[name] for name in sorted(codes)}, {})
    return {f"agreement/{left}_{right}": share for (left, right), share in shares.items()}


def agreement_shares(codes: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    """Share of the clips of all processes whose most frequent first-level code is the same, for each pair.

    `codes` are i64 [B, T, L] by modality; where a modality is in `real`, bool [B, T], segments where it is False
    do not count. Of equally frequent codes the lowest counts. Source: docs/models.md 2.6.
    """
    commonest = {name: _commonest(index[..., 0], real.get(name)) for name, index in codes.items()}
    pairs = list(itertools.combinations(commonest, 2))
    equal = torch.stack([(commonest[left] == commonest[right]).sum() for left, right in pairs])
    clips = torch.tensor(len(next(iter(commonest.values()))), device=equal.device)
    all_reduce_sum(equal, clips)
    shares: list[float] = (equal.double() / clips).tolist()
    return dict(zip(pairs, shares, strict=True))


def _commonest(codes_BT: Tensor, real_BT: Tensor | None) -> Tensor:
    """The most frequent code of each clip, i64 [B]."""
    counted = torch.ones_like(codes_BT) if real_BT is None else real_BT.long()
    counts_BK = codes_BT.new_zeros(len(codes_BT), int(codes_BT.max()) + 1)
    return counts_BK.scatter_add_(1, codes_BT, counted).argmax(dim=1)
