"""What methods share that give every segment a code: text behind an LSTM, random parts of clips, a codebook.

docs/models.md 1.2 and 3.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from tessera.windows import MODALITIES, Modality
from training.config import Recipe
from training.losses.alignment import segment_contrast_loss
from training.losses.cmcm import code_matching_loss
from training.losses.commitment import commitment_loss
from training.models.agreement import agreement
from training.models.encoders import TextLSTM
from training.models.stretch import random_phrase, random_stretch
from training.models.task import Batch, Losses, TaskModule
from training.quantizers.catalogue import build_quantizer
from training.quantizers.quantizer import Quantized, Quantizer

State = TypeVar("State")


class SegmentTask(TaskModule[State]):
    """A method that gives every segment of every modality a code."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.modalities = in_order(recipe.modalities)
        self.text_lstm = (
            TextLSTM(recipe.model) if "text" in self.modalities and not _canonical(recipe) else None
        )
        self.quantizers = nn.ModuleList([build_quantizer(recipe.codebook, recipe.model.dim)])

    def features(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Tensor:
        """What the encoders see: text goes through the LSTM."""
        if modality != "text" or self.text_lstm is None:
            return features
        read: Tensor = self.text_lstm(features, mask)
        return read

    def inputs(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[dict[Modality, Tensor], Tensor | None]:
        """Features of each modality, text behind its LSTM, and the mask of the word slots."""
        crop = self.recipe.training.crop
        segments = next(batch[m].shape[1] for m in self.modalities if m != "text")
        stretch = random_stretch(crop, segments, generator)
        features: dict[Modality, Tensor] = {m: batch[m][:, stretch] for m in self.modalities if m != "text"}
        if "text" not in self.modalities:
            return features, None
        text, mask = batch["text"], batch.get("text_mask")
        if crop is not None and mask is not None:
            text, mask = random_phrase(text, mask, generator)
        return {**features, "text": self.features("text", text, mask)}, mask


def codebook_losses(latents: Mapping[str, Tensor], quantized: Quantized, recipe: Recipe) -> Losses:
    """Commitment of each modality, and CMCM where codes are rows of a table; latents [B, T, D]."""
    beta, variant = recipe.codebook.commitment, recipe.losses.variant
    commitment = commitment_loss(
        latents, quantized.rows, beta, variant, partners=recipe.codebook.partners != "none"
    )
    losses = {f"commitment/{m}": loss for m, loss in commitment.items()}
    if quantized.distances is not None:
        losses["cmcm"] = code_matching_loss(quantized.distances, variant)
    return losses


def contrast_losses(latents: Mapping[str, Tensor], recipe: Recipe) -> Losses:
    """The contrast of segments for every pair of modalities; latents [B, T, D], aligned in time."""
    critic, temperature = recipe.losses.critic, recipe.losses.temperature
    return {
        f"contrast/{left}_{right}": segment_contrast_loss(
            latents[left].flatten(0, 1), latents[right].flatten(0, 1), critic, temperature
        )
        for left, right in itertools.combinations(latents, 2)
    }


def codebook_metrics(quantizer: Quantizer, codes: Mapping[str, Tensor]) -> dict[str, float]:
    """Use of the codebook, and how often modalities agree on the commonest code of a clip."""
    usage = {f"codebook/{name}": figure for name, figure in quantizer.usage(codes).items()}
    return {**usage, **agreement(codes)}


def input_dims(recipe: Recipe) -> dict[Modality, int]:
    """Widths of what the first level sees: text has been through the LSTM, where there is one."""
    model = recipe.model
    text = model.text_dim if _canonical(recipe) else model.dim
    dims: dict[Modality, int] = {"audio": model.audio_dim, "video": model.video_dim, "text": text}
    return {m: dims[m] for m in in_order(recipe.modalities)}


def in_order(modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """Audio, video, text: the order in which a codebook is moved where that is done in turn."""
    return tuple(m for m in MODALITIES if m in modalities)


def _canonical(recipe: Recipe) -> bool:
    return recipe.model.encoder == "canonical"


def trained(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of `modules` that have parameters."""
    return {name: module for name, module in modules.items() if any(True for _ in module.parameters())}
