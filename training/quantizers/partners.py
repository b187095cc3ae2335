"""MM-EMA's partners: what a vector of one modality is mixed with before it moves its code (docs/models.md 2.3).

M modalities, T segments of a clip, D channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Partners = Literal["aligned", "attention", "none"]


def mix_partners(latents_MxTD: Tensor, partners: Partners) -> Tensor:
    """Half of each vector and half the mean of its partners, one in every other modality; [M, ..., T, D].

    `aligned`: the vector at the same segment, as released. `attention`: what the vector itself, as a query, reads
    from the segments of the same clip, as the paper says (Xia et al. 2023, equation 7); it has no weights to learn.
    """
    modalities = len(latents_MxTD)
    if modalities == 1 or partners == "none":
        return latents_MxTD
    shared_MxTD = _read(latents_MxTD) if partners == "attention" else _others(latents_MxTD)
    return (latents_MxTD + shared_MxTD / (modalities - 1)) / 2


def _others(latents_MxTD: Tensor) -> Tensor:
    """The sum over the other modalities at the same segment."""
    return latents_MxTD.sum(dim=0, keepdim=True) - latents_MxTD


def _read(latents_MxTD: Tensor) -> Tensor:
    """The sum of what each vector reads from the clip in every other modality."""
    return torch.stack(
        [
            sum((_attend(z, other) for o, other in enumerate(latents_MxTD) if o != m), torch.zeros_like(z))
            for m, z in enumerate(latents_MxTD)
        ]
    )


def _attend(queries_xTD: Tensor, keys_xTD: Tensor) -> Tensor:
    scores_xTT = queries_xTD @ keys_xTD.transpose(-1, -2) / queries_xTD.shape[-1] ** 0.5
    return torch.softmax(scores_xTT, dim=-1) @ keys_xTD
