"""How much of the alphabet is in use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.distributed import all_reduce_sum


def usage(codes: Mapping[str, Tensor], size: int) -> dict[str, float]:
    """Of the `codes` i64 [..., L] of a batch, each below `size`: `perplexity`, and the share of codes `used`.

    They count all processes, and are of the first level, over all modalities and by modality (`perplexity_audio`).
    More than one level adds the mean over levels (`perplexity_mean`), over all modalities.
    """
    counts_MLK = torch.stack([code_counts(index, size) for index in codes.values()])
    all_reduce_sum(counts_MLK)
    counts_NLK = torch.cat([counts_MLK.sum(dim=0, keepdim=True), counts_MLK])
    used = (counts_NLK > 0).double().mean(dim=-1)
    # One copy to the host for all figures.
    perplexity_NL, used_NL = torch.stack([perplexity(counts_NLK), used]).tolist()
    figures = {"perplexity": perplexity_NL[0][0], "used": used_NL[0][0]}
    for name, perplexity_L, used_L in zip(codes, perplexity_NL[1:], used_NL[1:], strict=True):
        figures |= {f"perplexity_{name}": perplexity_L[0], f"used_{name}": used_L[0]}
    levels = len(used_NL[0])
    if levels > 1:
        figures["perplexity_mean"] = sum(perplexity_NL[0]) / levels
        figures["used_mean"] = sum(used_NL[0]) / levels
    return figures


def code_counts(codes: Tensor, size: int) -> Tensor:
    """How often each of `size` codes occurs in `codes` [..., L], i64 [L, K]."""
    codes_LP = codes.flatten(0, -2).T
    counts_LK = codes.new_zeros(len(codes_LP), size)
    return counts_LK.scatter_add_(1, codes_LP, torch.ones_like(codes_LP))


def perplexity(counts: Tensor) -> Tensor:
    """The exponential of the entropy of `counts` [..., K]: how many codes, equally used, would be as varied; f64."""
    shares = counts.double() / counts.sum(dim=-1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()
