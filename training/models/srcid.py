"""SRCID: the two levels of H-DCID, the second of which begins when the first has disentangled.

H. Huang et al., *Semantic Residual for Multimodal Unified Discrete Representation*, 2024; docs/models.md 1.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.config import Recipe
from training.distributed import all_reduce_sum, world_size
from training.models.hdcid import HDCID, HDCIDState
from training.models.task import Losses

_MEMORY = 0.95
"""CLUB of single batches is noisy: its moving average decides."""


class SRCID(HDCID):
    """H-DCID that waits until the mutual information of its first level is low, and then never looks back."""

    information: Tensor
    highest_information: Tensor
    disentangled: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.register_buffer("information", torch.tensor(0.0))
        self.register_buffer("highest_information", torch.tensor(0.0))
        self.register_buffer("disentangled", torch.tensor(False))

    @torch.no_grad()
    def observe(self, first: Losses) -> None:
        """Follow the mean CLUB bound of the modalities."""
        super().observe(first)
        bound = torch.stack([loss for name, loss in first.items() if name.startswith("club/")]).mean()
        all_reduce_sum(bound)
        self.information.lerp_((bound / world_size()).to(self.information.dtype), 1 - _MEMORY)
        self.highest_information.copy_(torch.maximum(self.highest_information, self.information))
        if super().is_warm():
            assert self.recipe.warm_start is not None
            low = self.information < (self.recipe.warm_start.mi_below or 0.0) * self.highest_information
            self.disentangled.logical_or_(low)

    def is_warm(self) -> bool:
        """Whether the losses of the second level count."""
        return bool(self.disentangled)

    def metrics(self, state: HDCIDState) -> dict[str, float]:
        """Those of H-DCID, and what decides."""
        share = self.information / self.highest_information.clamp(min=1e-12)
        return {**super().metrics(state), "warm_start/information": float(share)}
