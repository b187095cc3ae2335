"""InfoNCE: a clip is told from the other clips of its batch across two modalities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce_loss(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the cosine similarities of `query` and `key` [batch, dim], one direction.

    Source: docs/fcid.md 3.4; the released code has temperature 0.1, the paper 1.
    """
    similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T
    return F.cross_entropy(similarity / temperature, torch.arange(len(query), device=query.device))
