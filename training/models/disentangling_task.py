"""What DCID and H-DCID share: a first level, and the losses of a level with its codebook.

docs/models.md 1.2, 1.3 and 3.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

import torch
from torch import nn

from training.config import Recipe
from training.models.canonical_encoder import start_encoders
from training.models.disentangling import Disentangled, Disentangling, Vectors
from training.models.segment_task import SegmentTask, codebook_losses, input_dims, trained
from training.models.task import Batch, Losses
from training.quantizers.quantizer import Quantized

State = TypeVar("State")


class DisentanglingTask(SegmentTask[State]):
    """A method that begins with a level of disentangling."""

    club_sees_codes: ClassVar[bool] = True
    """As released, CLUB is given the quantised vectors; as the paper says, the general ones."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.level = Disentangling(recipe, input_dims(recipe), pictures=True)

    def start(self, clips: Iterable[Batch]) -> None:
        """As `start_encoders` says, where the encoders are of that kind."""
        if self.recipe.model.encoder == "canonical":
            start_encoders(self.level.temporal, clips, self.recipe.model)

    def level_losses(
        self, level: Disentangling, state: Disentangled, quantized: Quantized, generator: torch.Generator
    ) -> Losses:
        """The terms of one level and its codebook."""
        condition = self.condition(state, quantized)
        return {
            **level.losses(state, quantized.vectors, condition, generator),
            **codebook_losses(state.general, quantized, self.recipe),
        }

    def condition(self, state: Disentangled, quantized: Quantized) -> Vectors:
        """What CLUB is given (docs/models.md 3.2)."""
        released = self.recipe.losses.variant == "paper" and self.club_sees_codes
        return quantized.vectors if released else state.general

    def main_modules(self) -> dict[str, nn.Module]:
        """Encoder, decoders, CPC and the LSTM, clipped apart as published."""
        modules: dict[str, nn.Module] = {
            "encoder": self.level.encoder(),
            "decoders": self.level.decoders,
            "predictors": self.level.predictors,
            "quantizers": self.quantizers,
        }
        if self.text_lstm is not None:
            modules["text LSTM"] = self.text_lstm
        return trained(modules)
