"""H-DCID: a second level of disentangling on what the first one left as specific, with a codebook of its own.

docs/models.md 1.3. The second level's losses begin after a warm start; its codebook moves from the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessera.windows import Modality
from training.config import Recipe
from training.models.dcid import DCIDState
from training.models.disentangling import Disentangled, Disentangling, likelihoods
from training.models.disentangling_task import DisentanglingTask
from training.models.segment_task import codebook_metrics, trained
from training.models.task import Batch, Losses
from training.quantizers.catalogue import build_quantizer

SECOND = "level2"
"""What the names of the second level's losses and metrics begin with."""


@dataclass(frozen=True)
class HDCIDState:
    """The state of each level."""

    first: DCIDState
    second: DCIDState


class HDCID(DisentanglingTask[HDCIDState]):
    """Two levels; `warm_start` of the recipe says when the losses of the second one begin to count."""

    steps: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        config = recipe.model
        summary_dims: dict[Modality, int] = {
            m: config.club_video_dim if m == "video" else config.dim for m in self.modalities
        }
        self.second = Disentangling(recipe, summary_dims, pictures=False)
        self.quantizers.append(build_quantizer(recipe.codebook, config.dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `TaskModule` says; the second level of a picture depends on the whole map where that is convolved."""
        features = self.features(modality, features, mask)
        summary = self.level.summary(modality, features)
        return self.level.general(modality, features, mask), self.second.general(modality, summary, mask)

    def encode(self, batch: Batch, generator: torch.Generator) -> HDCIDState:
        """Both levels, and a move of both codebooks."""
        features, mask = self.inputs(batch, generator)
        first: Disentangled = self.level(features, mask)
        second: Disentangled = self.second(first.summaries, mask)
        states = [
            DCIDState(state, quantizer.quantize(state.general, generator))
            for state, quantizer in zip(
                (first.aligned(mask), second.aligned(mask)), self.levels(), strict=True
            )
        ]
        return HDCIDState(*states)

    def inner_losses(self, state: HDCIDState) -> Losses:
        """Likelihoods of the CLUB nets of both levels."""
        first, second = (
            likelihoods(level.club, self.condition(part.level, part.quantized), part.level.summaries)
            for level, part in self._parts(state)
        )
        return {**first, **_second(second)}

    def losses(self, state: HDCIDState, generator: torch.Generator) -> Losses:
        """The terms of both levels, unweighted."""
        first, second = (
            self.level_losses(level, part.level, part.quantized, generator)
            for level, part in self._parts(state)
        )
        return {**first, **_second(second)}

    def _parts(self, state: HDCIDState) -> tuple[tuple[Disentangling, DCIDState], ...]:
        return (self.level, state.first), (self.second, state.second)

    def observe(self, losses: Mapping[str, float]) -> None:
        """Count the steps of the warm start."""
        self.steps += 1

    def is_warm(self) -> bool:
        """Whether the losses of the second level count."""
        assert self.recipe.warm_start is not None
        return int(self.steps) >= self.recipe.warm_start.steps

    def loss_weights(self) -> dict[str, float]:
        """Zero for the second level while the first one warms up."""
        return {} if self.is_warm() else {SECOND: 0.0}

    def dormant_modules(self) -> Iterator[nn.Module]:
        """The second level, while the first one warms up."""
        if not self.is_warm():
            yield from (self.second.encoder(), self.second.decoders, self.second.predictors)

    def metrics(self, state: HDCIDState) -> dict[str, float]:
        """Use of each codebook, agreement of modalities on each level, and whether the second level counts."""
        first, second = (
            codebook_metrics(quantizer, part.quantized.codes)
            for quantizer, (_, part) in zip(self.levels(), self._parts(state), strict=True)
        )
        second = {f"{SECOND}/{name}": figure for name, figure in second.items()}
        return {**first, **second, "warm_start/over": float(self.is_warm())}

    def main_modules(self) -> dict[str, nn.Module]:
        """Those of DCID, with the second level in them; its CPC is clipped apart as published."""
        modules = super().main_modules()
        return trained(
            {
                **modules,
                "encoder": nn.ModuleList([modules["encoder"], self.second.encoder()]),
                "decoders": nn.ModuleList([modules["decoders"], self.second.decoders]),
                "predictors of level 2": self.second.predictors,
            }
        )

    def inner_modules(self) -> Iterator[nn.Module]:
        """The CLUB nets of both levels."""
        yield from self.level.club.values()
        yield from self.second.club.values()


def _second(losses: Losses) -> Losses:
    return {f"{SECOND}/{name}": loss for name, loss in losses.items()}
