"""One level of disentangling: what modalities share goes to general vectors, the rest to specific ones.

DCID is one such level, H-DCID and SRCID are two, and FCID begins with one. docs/models.md 1.2 and 3.

B batch, T segments, S word slots, D width of the model, Y width of a specific vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import Modality
from training.config import Recipe
from training.distributed import gather, own_rows, world_size
from training.losses.club import ClubNet, club_bound, club_likelihood_loss, released_club_bound
from training.losses.cpc import Predictor, cross_cpc_loss
from training.models.canonical_encoder import CanonicalEncoder
from training.models.decoders import VectorDecoder, VideoDecoder
from training.models.encoders import (
    ReluLinear,
    TemporalBlock,
    VideoPooling,
    VideoSpecific,
    spatial_mean,
    spread_over_time,
)
from training.models.task import Losses

Vectors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Disentangled:
    """What a level makes of its inputs; each is a segment or a word, until `aligned` lays words out in time."""

    inputs: dict[str, Tensor]  # what the decoders are to give back
    general: dict[str, Tensor]  # [B, T, D]
    specific: dict[str, Tensor]  # for the decoders: [B, T, Y], or a map [B * T, C, H, W] of a picture
    summaries: dict[str, Tensor]  # [B, T, Y]: the specific vectors; what CLUB and a second level see

    def aligned(self, mask_BS: Tensor | None) -> Self:
        """The same with the words of texts spread over the segments of the other modalities."""
        if "text" not in self.general:
            return self
        time = next(z.shape[1] for name, z in self.general.items() if name != "text")

        def spread(vectors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**vectors, "text": spread_over_time(vectors["text"], mask_BS, time)}

        return replace(
            self,
            inputs=spread(self.inputs),
            general=spread(self.general),
            specific=spread(self.specific),
            summaries=spread(self.summaries),
        )


class Disentangling(nn.Module):
    """General and specific encoders, decoders, CPC predictors and CLUB nets of some modalities."""

    def __init__(self, recipe: Recipe, input_dims: Mapping[Modality, int], pictures: bool) -> None:
        """`pictures`: video comes as feature maps, or as vectors like the others."""
        super().__init__()
        config = recipe.model
        self.recipe = recipe
        self.pictures, self.maps = pictures, pictures and config.video_branch == "convolutions"
        summary_dims = {m: config.club_video_dim if m == "video" else config.dim for m in input_dims}
        canonical = config.encoder == "canonical"
        pooled = pictures and "video" in input_dims and not canonical
        self.pooling = VideoPooling(config) if pooled else None
        encoder = CanonicalEncoder if canonical else TemporalBlock
        self.temporal = nn.ModuleDict({m: encoder(dim, config) for m, dim in input_dims.items()})
        self.specific = nn.ModuleDict({m: ReluLinear(dim, summary_dims[m]) for m, dim in input_dims.items()})
        self.decoders = nn.ModuleDict(
            {m: VectorDecoder(config.dim, summary_dims[m], dim) for m, dim in input_dims.items()}
        )
        if self.maps and "video" in input_dims:
            self.specific["video"], self.decoders["video"] = VideoSpecific(config), VideoDecoder(config)
        steps = recipe.losses.cpc_steps
        self.predictors = nn.ModuleDict({m: Predictor(config.dim, steps) for m in input_dims})
        self.club = nn.ModuleDict(
            {m: ClubNet(config.dim, dim, config.club_hidden) for m, dim in summary_dims.items()}
        )

    def general(self, modality: Modality, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, ...] -> general vectors [B, T, D]."""
        if modality == "video" and self.pooling is not None:
            features = self.pooling(features)
        z: Tensor = self.temporal[modality](features, mask)
        return z

    def summary(self, modality: Modality, features: Tensor) -> Tensor:
        """Features [B, T, ...] -> specific vectors [B, T, Y]."""
        return self._specific(modality, features)[1]

    def forward(self, features: Mapping[Modality, Tensor], mask_BS: Tensor | None) -> Disentangled:
        """Features by modality; `mask` is that of the word slots."""
        inputs: dict[str, Tensor] = {m: self._vectors(m, x) for m, x in features.items()}
        specific = {m: self._specific(m, x) for m, x in features.items()}
        return Disentangled(
            inputs=inputs,
            general={m: self.general(m, x, mask_BS if m == "text" else None) for m, x in features.items()},
            specific={m: pair[0] for m, pair in specific.items()},
            summaries={m: pair[1] for m, pair in specific.items()},
        )

    def _vectors(self, modality: Modality, features: Tensor) -> Tensor:
        """Pictures are seen as their mean where the recipe spares the convolutions."""
        if modality == "video" and self.pictures and not self.maps:
            return spatial_mean(features)
        return features

    def _specific(self, modality: Modality, features: Tensor) -> tuple[Tensor, Tensor]:
        encoder, x = self.specific[modality], self._vectors(modality, features)
        if isinstance(encoder, VideoSpecific):
            maps, summary = encoder(x)
            return maps, summary
        vectors: Tensor = encoder(x)
        return vectors, vectors

    def encoder(self) -> nn.Module:
        """What is left when training is over, and the specific encoders."""
        parts: list[nn.Module] = [self.temporal, self.specific]
        return nn.ModuleList(parts if self.pooling is None else [self.pooling, *parts])

    def losses(
        self, state: Disentangled, vectors: Vectors, condition: Vectors, generator: torch.Generator
    ) -> Losses:
        """Reconstruction from `vectors`, CLUB given `condition`, and CPC between the general vectors."""
        return {
            **self._reconstruction(state, vectors),
            **club_bounds(self.club, condition, state.summaries, self.recipe, generator),
            "cpc": self._cpc(state.general, generator),
        }

    def _reconstruction(self, state: Disentangled, vectors: Vectors) -> Losses:
        return {
            f"reconstruction/{m}": F.mse_loss(decoder(state.specific[m], vectors[m]), state.inputs[m])
            for m, decoder in self.decoders.items()
        }

    def _cpc(self, general: Vectors, generator: torch.Generator) -> Tensor:
        z_BTD = next(iter(general.values()))
        time, ahead = z_BTD.shape[1], self.recipe.losses.cpc_steps
        if time <= ahead:
            # Nothing to foretell; but every parameter is to have a gradient in every step.
            return torch.stack([self.predictors[m](z).sum() for m, z in general.items()]).sum() * 0.0
        # At least two segments of context, where the clip has them (docs/models.md 3.3).
        earliest = min(1, time - ahead - 1)
        now = int(torch.randint(earliest, time - ahead, (), generator=generator))
        guesses = {m: self.predictors[m](z[:, : now + 1]) for m, z in general.items()}
        targets = {m: z[:, now + 1 : now + 1 + ahead] for m, z in general.items()}
        return cross_cpc_loss(targets, guesses, self.recipe.losses.cpc_contrast)


def club_bounds(
    nets: nn.ModuleDict, condition: Vectors, vectors: Vectors, recipe: Recipe, generator: torch.Generator
) -> Losses:
    """The CLUB bound of each pair by name; gradients pass through the nets without reaching their weights."""
    losses = {}
    with frozen(nets):
        for name, net in nets.items():
            x, y = condition[name], vectors[name]
            if recipe.losses.variant == "intended":
                losses[f"club/{name}"] = club_bound(_club(net), x, y)
                continue
            order = own_rows(torch.randperm(len(y) * world_size(), generator=generator)).to(y.device)
            negatives = gather(y)[order]
            losses[f"club/{name}"] = released_club_bound(_club(net), x, y, negatives)
    return losses


def likelihoods(nets: nn.ModuleDict, condition: Vectors, vectors: Vectors) -> Losses:
    """What the CLUB nets are trained on: negative log-likelihoods on detached vectors, by name."""
    return {
        f"club_likelihood/{name}": club_likelihood_loss(
            _club(net), condition[name].detach(), vectors[name].detach()
        )
        for name, net in nets.items()
    }


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through `module` without reaching its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _club(net: nn.Module) -> ClubNet:
    assert isinstance(net, ClubNet)
    return net
