"""FCID: fine disentangling of sound and picture, coarse alignment with text, one codebook for clips.

H. Huang et al., ACL Findings 2025; docs/models.md 1.4. With two modalities its coarse half alone; its fine half
alone is `fcid_fine.py`.

B batch, T segments (seconds, or word slots), D width of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessera.windows import Modality
from training.config import Recipe
from training.losses.infonce import info_nce_loss
from training.models.coarse import Coarse, by_branch
from training.models.disentangling import Disentangled, Disentangling, club_bounds, likelihoods
from training.models.encoders import masked_mean
from training.models.segment_task import codebook_losses, codebook_metrics, trained
from training.models.stretch import random_stretch, random_words
from training.models.task import Batch, Losses, TaskModule
from training.quantizers.catalogue import build_quantizer
from training.quantizers.quantizer import Quantized

# The codebook is moved in this order where that is done in turn.
_ORDER: tuple[Modality, ...] = ("video", "audio", "text")
_FINE: tuple[Modality, ...] = ("audio", "video")


@dataclass(frozen=True)
class FCIDState:
    """What one forward pass of training leaves for the losses."""

    fine: Disentangled | None
    projected: dict[str, Tensor]  # [B, D]: the projected time means
    general: dict[str, Tensor]  # [B, D]
    specific: dict[str, Tensor]  # [B, D]
    quantized: Quantized  # of [B, 1, D]


class FCID(TaskModule[FCIDState]):
    """Segment and clip latents go through the same coarse path."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.modalities = tuple(m for m in _ORDER if m in recipe.modalities)
        config = recipe.model
        self.fine: Disentangling | None = None
        if recipe.half is None:
            self.fine = Disentangling(
                recipe, {"audio": config.audio_dim, "video": config.video_dim}, pictures=True
            )
        fine = () if self.fine is None else _FINE
        self.coarse = Coarse(recipe, self.modalities, tuple(m for m in self.modalities if m not in fine))
        self.quantizers = nn.ModuleList([build_quantizer(recipe.codebook, config.dim)])

    # Inference: pure functions of their input, exported as they stand.

    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `TaskModule` says: every segment by itself through the coarse path; video may be maps or their mean."""
        return (self._general(modality, self._encode(modality, features, mask)),)

    def clip_latents(self, modality: Modality, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, ...] -> one latent a clip [B, D]: the time mean through the coarse path."""
        return self._general(modality, masked_mean(self._encode(modality, features, mask), mask))

    def segment_and_clip_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both of the above, [B, T, D] and [B, D], for one pass of the encoder."""
        encoded = self._encode(modality, features, mask)
        return self._general(modality, encoded), self._general(modality, masked_mean(encoded, mask))

    def _encode(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Tensor:
        if self.fine is not None and modality in _FINE:
            return self.fine.general(modality, features, mask)
        return self.coarse.encode(modality, features, mask)

    def _general(self, modality: Modality, fine: Tensor) -> Tensor:
        return self.coarse.general_of(modality, self.coarse.project(modality, fine))

    # Training.

    def encode(self, batch: Batch, generator: torch.Generator) -> FCIDState:
        """Both halves, and a move of the codebook."""
        inputs = self._inputs(batch, generator)
        fine: Disentangled | None = None
        if self.fine is not None:
            fine = self.fine({m: inputs[m] for m in _FINE}, None)
        means = {} if fine is None else {m: masked_mean(z) for m, z in fine.general.items()}
        for m, x in inputs.items():
            if m not in means:
                mask = batch.get("text_mask") if m == "text" else None
                means[m] = masked_mean(self.coarse.encode(m, x, mask), self._words(mask, generator))
        projected: dict[str, Tensor] = {m: self.coarse.project(m, means[m]) for m in self.modalities}
        general: dict[str, Tensor] = {m: self.coarse.general_of(m, projected[m]) for m in self.modalities}
        return FCIDState(
            fine=fine,
            projected=projected,
            general=general,
            specific={m: self.coarse.specific_of(m, projected[m]) for m in self.modalities},
            quantized=next(self.levels()).quantize(
                {m: z.unsqueeze(1) for m, z in general.items()}, generator
            ),
        )

    def _inputs(self, batch: Batch, generator: torch.Generator) -> dict[Modality, Tensor]:
        timed = [m for m in self.modalities if m != "text"]
        crop = random_stretch(self.recipe.training.crop, batch[timed[0]].shape[1], generator)
        return {m: batch[m][:, crop] if m in timed else batch[m] for m in self.modalities}

    def _words(self, mask: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """Where seconds are cropped, words are too: every slot learns to speak for its text."""
        if mask is None or self.recipe.training.crop is None:
            return mask
        return random_words(mask, generator)

    def inner_losses(self, state: FCIDState) -> Losses:
        """Likelihoods of the CLUB nets, fine and coarse."""
        fine: Losses = {}
        if self.fine is not None and state.fine is not None:
            fine = likelihoods(self.fine.club, state.fine.general, state.fine.summaries)
        return {**fine, **likelihoods(self.coarse.club, by_branch(state.general), by_branch(state.specific))}

    def losses(self, state: FCIDState, generator: torch.Generator) -> Losses:
        """All terms of docs/models.md 3.5, unweighted."""
        fine: Losses = {}
        if self.fine is not None and state.fine is not None:
            # Sound and picture are decoded from their unquantised vectors, and CLUB sees those too.
            fine = self.fine.losses(state.fine, state.fine.general, state.fine.general, generator)
        vectors = {m: q.squeeze(1) for m, q in state.quantized.vectors.items()}
        return {
            **fine,
            **self.coarse.reconstruction(state.projected, state.specific, vectors),
            **codebook_losses(
                {m: z.unsqueeze(1) for m, z in state.general.items()}, state.quantized, self.recipe
            ),
            **club_bounds(
                self.coarse.club,
                by_branch(state.general),
                by_branch(state.specific),
                self.recipe,
                generator,
            ),
            **self._alignment(state),
        }

    def _alignment(self, state: FCIDState) -> Losses:
        """InfoNCE of each other modality with text, or with the last one where there is no text."""
        *queries, key = self.modalities
        temperature = self.recipe.losses.temperature
        return {
            f"infonce/{m}": info_nce_loss(state.general[m], state.general[key], temperature) for m in queries
        }

    def metrics(self, state: FCIDState) -> dict[str, float]:
        """Use of the codebook, and how often modalities agree on the code of a clip."""
        return codebook_metrics(next(self.levels()), state.quantized.codes)

    def main_modules(self) -> dict[str, nn.Module]:
        """Encoder, decoders and CPC, clipped apart as published."""
        encoders, decoders = [self.coarse.encoder()], [self.coarse.decoders]
        modules: dict[str, nn.Module] = {"quantizers": self.quantizers}
        if self.fine is not None:
            encoders.append(self.fine.encoder())
            decoders.append(self.fine.decoders)
            modules["predictors"] = self.fine.predictors
        return trained({"encoder": nn.ModuleList(encoders), "decoders": nn.ModuleList(decoders), **modules})

    def inner_modules(self) -> Iterator[nn.Module]:
        """The CLUB nets."""
        if self.fine is not None:
            yield from self.fine.club.values()
        yield from self.coarse.club.values()
