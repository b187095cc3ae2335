"""The contrast of segments: each finds its partner of another modality among all segments of the batch.

P segments of this process, N of all processes, D channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from training.distributed import gather
from training.losses.contrast import own_cross_entropy, products

Critic = Literal["distance", "cosine"]

_FARTHEST = -60.0


def segment_contrast_loss(left: Tensor, right: Tensor, critic: Critic, temperature: float) -> Tensor:
    """Cross entropy of picking the row of `right` [P, D] at the same position for each of `left`, and the reverse.

    The critic `distance` scores a pair by minus half its squared distance: up to a constant the log of a Gaussian
    density of one given the other, so that distances in the latent space say how likely two segments are of one moment,
    as nearest codes assume. `cosine` is divided by `temperature`.
    """
    if critic == "cosine":
        left, right = (F.normalize(z, dim=-1) / temperature**0.5 for z in (left, right))
    return (_own_contrast(left, right, critic) + _own_contrast(right, left, critic)) / 2


def _own_contrast(own_PD: Tensor, other_PD: Tensor, critic: Critic) -> Tensor:
    whole_ND = gather(other_PD)
    scores_PN = products(own_PD, whole_ND)
    if critic == "distance":
        # Half the squared length of the own row would be the same in all of its scores.
        scores_PN = scores_PN - whole_ND.to(scores_PN).square().sum(dim=-1) / 2
    # Far pairs are told from nothing: numbers below the normal range slow a processor down many times.
    best_P1 = scores_PN.detach().amax(dim=-1, keepdim=True)
    return own_cross_entropy((scores_PN - best_P1).clamp(min=_FARTHEST))
