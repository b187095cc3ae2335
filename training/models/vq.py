"""The plain VQ baseline: one shared codebook, and nothing that aligns modalities or tells shared from specific.

The baseline of the tables in Y. Xia et al., NeurIPS 2023; docs/models.md 1.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import Modality
from training.config import Recipe
from training.losses.commitment import commitment_loss
from training.models.encoders import TemporalBlock, VideoPooling, spatial_mean, spread_over_time
from training.models.segment_task import SegmentTask, codebook_metrics, input_dims, trained
from training.models.task import Batch, Losses
from training.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class VQState:
    """What one forward pass of training leaves for the losses, aligned in time."""

    inputs: dict[str, Tensor]  # [B, T, C]; pictures by their spatial mean
    latents: dict[str, Tensor]  # [B, T, D]
    quantized: Quantized


class VQ(SegmentTask[VQState]):
    """An encoder and a decoder for each modality with the codebook between them."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        dims, dim = input_dims(recipe), recipe.model.dim
        self.pooling = VideoPooling(recipe.model) if "video" in dims else None
        self.temporal = nn.ModuleDict({m: TemporalBlock(width, recipe.model) for m, width in dims.items()})
        self.decoders = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, width))
                for m, width in dims.items()
            }
        )

    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `TaskModule` says; video may be maps or their spatial mean."""
        return (self._latents(modality, self.features(modality, features, mask), mask),)

    def _latents(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Tensor:
        x = self.pooling(features) if modality == "video" and self.pooling is not None else features
        z: Tensor = self.temporal[modality](x, mask)
        return z

    def encode(self, batch: Batch, generator: torch.Generator) -> VQState:
        """Encoders, and a move of the codebook."""
        features, mask = self.inputs(batch, generator)
        latents: dict[str, Tensor] = {
            m: self._latents(m, x, mask if m == "text" else None) for m, x in features.items()
        }
        inputs: dict[str, Tensor] = {m: spatial_mean(x) for m, x in features.items()}
        if "text" in features:
            time = next(x.shape[1] for m, x in features.items() if m != "text")
            for vectors in (latents, inputs):
                vectors["text"] = spread_over_time(vectors["text"], mask, time)
        quantized = next(self.levels()).quantize(latents, generator)
        return VQState(inputs, latents, quantized)

    def inner_losses(self, state: VQState) -> Losses:
        """It has no auxiliary nets."""
        return {}

    def losses(self, state: VQState, generator: torch.Generator) -> Losses:
        """Reconstruction from the codes, and commitment of each modality to its own."""
        vectors, rows = state.quantized.vectors, state.quantized.rows
        beta, variant = self.recipe.codebook.commitment, self.recipe.losses.variant
        commitment = commitment_loss(state.latents, rows, beta, variant, partners=False)
        losses = {
            f"reconstruction/{m}": F.mse_loss(decoder(vectors[m]), state.inputs[m])
            for m, decoder in self.decoders.items()
        }
        return {**losses, **{f"commitment/{m}": loss for m, loss in commitment.items()}}

    def metrics(self, state: VQState) -> dict[str, float]:
        """Use of the codebook and agreement of modalities."""
        return codebook_metrics(next(self.levels()), state.quantized.codes)

    def main_modules(self) -> dict[str, nn.Module]:
        """Encoder, decoders and the LSTM, clipped apart."""
        encoder: list[nn.Module] = [self.temporal] if self.pooling is None else [self.pooling, self.temporal]
        modules: dict[str, nn.Module] = {
            "encoder": nn.ModuleList(encoder),
            "decoders": self.decoders,
            "quantizers": self.quantizers,
        }
        if self.text_lstm is not None:
            modules["text LSTM"] = self.text_lstm
        return trained(modules)

    def inner_modules(self) -> Iterator[nn.Module]:
        """None."""
        yield from ()
