"""SRCID: the two levels of H-DCID, the second of which begins when the first has disentangled.

H. Huang et al., *Semantic Residual for Multimodal Unified Discrete Representation*, 2024; docs/models.md 1.3.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import torch
from torch import Tensor

from training.config import Recipe
from training.models.hdcid import HDCID, HDCIDState

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

    def observe(self, losses: Mapping[str, float]) -> None:
        """Follow the mean CLUB bound of the modalities."""
        super().observe(losses)
        bound = statistics.fmean(loss for name, loss in losses.items() if name.startswith("club/"))
        self.information.mul_(_MEMORY).add_((1 - _MEMORY) * bound)
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
