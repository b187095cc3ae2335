"""What contrastive terms share: clips of this process compared with those of all processes.

B clips of this process, N of all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.distributed import own_positions
from training.quantizers.precision import without_autocast


def products(own: Tensor, whole: Tensor) -> Tensor:
    """Dot products [..., B, N] of rows [..., B, D] with rows [..., N, D], in float32 or wider under autocast too."""
    dtype = torch.promote_types(torch.promote_types(own.dtype, whole.dtype), torch.float32)
    with without_autocast(own.device):
        return own.to(dtype) @ whole.to(dtype).transpose(-1, -2)


def own_cross_entropy(scores: Tensor) -> Tensor:
    """Cross entropy of picking, in rows of `scores` [..., B, N], the column of the same clip; mean over rows.

    The mean of this over processes is that of the whole batch, in value and in gradient.
    """
    clips = own_positions(scores.shape[-2], scores.device).expand(scores.shape[:-1])
    return F.cross_entropy(scores.flatten(0, -2), clips.flatten())
