"""Canonical codes: encoders that start as the canonical correlation analysis of the modalities and go on from there.

Ours; docs/models.md 1.6. One contrast of segments trains them, and a codebook follows.

B batch, T segments (seconds, or word slots), D width of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessera.windows import Modality
from training.config import Recipe
from training.models.canonical_encoder import CanonicalEncoder, start_encoders
from training.models.encoders import spread_over_time
from training.models.segment_task import SegmentTask, codebook_metrics, contrast_losses, input_dims
from training.models.task import Batch, Losses
from training.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class CanonicalState:
    """What one forward pass of training leaves for the losses; words lie on segments."""

    latents: dict[str, Tensor]  # [B, T, D]
    quantized: Quantized


class Canonical(SegmentTask[CanonicalState]):
    """An encoder for each modality and one codebook; nothing is decoded and nothing told apart."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.encoders = nn.ModuleDict(
            {m: CanonicalEncoder(width, recipe.model) for m, width in input_dims(recipe).items()}
        )

    def start(self, clips: Iterable[Batch]) -> None:
        """As `start_encoders` says."""
        start_encoders(self.encoders, clips, self.recipe.model)

    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `TaskModule` says; video may be maps or their spatial mean."""
        return (self.encoders[modality](features, mask),)

    def encode(self, batch: Batch, generator: torch.Generator) -> CanonicalState:
        """Encoders, and a move of the codebook."""
        features, mask = self.inputs(batch, generator)
        latents: dict[str, Tensor] = {}
        for m, x in features.items():
            (latents[m],) = self.segment_latents(m, x, mask if m == "text" else None)
        if "text" in latents:
            time = next(z.shape[1] for m, z in latents.items() if m != "text")
            latents["text"] = spread_over_time(latents["text"], mask, time)
        return CanonicalState(latents, next(self.levels()).quantize(latents, generator))

    def inner_losses(self, state: CanonicalState) -> Losses:
        """It has no auxiliary nets."""
        return {}

    def losses(self, state: CanonicalState, generator: torch.Generator) -> Losses:
        """The contrast of every pair of modalities."""
        return contrast_losses(state.latents, self.recipe)

    def metrics(self, state: CanonicalState) -> dict[str, float]:
        """Use of the codebook and agreement of modalities."""
        return codebook_metrics(next(self.levels()), state.quantized.codes)

    def main_modules(self) -> dict[str, nn.Module]:
        """The encoders."""
        return {"encoder": self.encoders}

    def inner_modules(self) -> Iterator[nn.Module]:
        """None."""
        yield from ()
