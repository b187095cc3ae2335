"""DCID (Uni-Code): general and specific vectors of two or three modalities, a code for every segment.

Y. Xia et al., NeurIPS 2023; docs/models.md 1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessera.windows import Modality
from training.models.disentangling import Disentangled, likelihoods
from training.models.disentangling_task import DisentanglingTask
from training.models.segment_task import codebook_metrics, contrast_losses
from training.models.task import Batch, Losses
from training.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class DCIDState:
    """What one forward pass of training leaves for the losses; words lie on segments."""

    level: Disentangled
    quantized: Quantized


class DCID(DisentanglingTask[DCIDState]):
    """One level of disentangling with a codebook."""

    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `TaskModule` says; video may be maps or their spatial mean."""
        return (self.level.general(modality, self.features(modality, features, mask), mask),)

    def encode(self, batch: Batch, generator: torch.Generator) -> DCIDState:
        """One level and one move of the codebook."""
        features, mask = self.inputs(batch, generator)
        state: Disentangled = self.level(features, mask).aligned(mask)
        return DCIDState(state, next(self.levels()).quantize(state.general, generator))

    def inner_losses(self, state: DCIDState) -> Losses:
        """Likelihoods of the CLUB nets."""
        condition = self.condition(state.level, state.quantized)
        return likelihoods(self.level.club, condition, state.level.summaries)

    def losses(self, state: DCIDState, generator: torch.Generator) -> Losses:
        """All terms of docs/models.md 3.5, unweighted; with canonical encoders their contrast too."""
        losses = self.level_losses(self.level, state.level, state.quantized, generator)
        if self.recipe.model.encoder == "canonical":
            losses |= contrast_losses(state.level.general, self.recipe)
        return losses

    def metrics(self, state: DCIDState) -> dict[str, float]:
        """Use of the codebook and agreement of modalities."""
        return codebook_metrics(next(self.levels()), state.quantized.codes)

    def inner_modules(self) -> Iterator[nn.Module]:
        """The CLUB nets."""
        yield from self.level.club.values()
