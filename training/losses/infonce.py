"""InfoNCE: a clip is told from the other clips of its batch across two modalities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.distributed import gather
from training.losses.contrast import own_cross_entropy, products


def info_nce_loss(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the cosine similarities of `query` and `key` [batch, dim], one direction.

    Each query picks its clip's key among the keys of all processes. Source: docs/models.md 3.4; the released code has
    temperature 0.1, the paper 1.
    """
    similarity = products(F.normalize(query, dim=-1), gather(F.normalize(key, dim=-1)))
    return own_cross_entropy(similarity / temperature)
