"""The coarse half of FCID: one vector a clip, shared by the modalities, and a specific rest.

Sound and picture share the branch `media`; text has its own. docs/models.md 1.4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import Modality
from training.config import Recipe
from training.losses.club import ClubNet
from training.models.decoders import VectorDecoder
from training.models.encoders import ReluLinear, TemporalBlock, VideoPooling
from training.models.task import Losses


def branch_of(modality: str) -> str:
    """Sound and picture share the coarse encoders."""
    return "text" if modality == "text" else "media"


class Coarse(nn.Module):
    """Projectors, general and specific encoders, decoders and CLUB nets of clip vectors.

    It encodes the modalities in `encoded` itself; the others come as the fine half's general vectors.
    """

    def __init__(
        self, recipe: Recipe, modalities: tuple[Modality, ...], encoded: tuple[Modality, ...]
    ) -> None:
        super().__init__()
        config, dim = recipe.model, recipe.model.dim
        widths = {"audio": config.audio_dim, "video": config.video_dim, "text": config.text_dim}
        branches = sorted({branch_of(m) for m in modalities})
        self.pooling = VideoPooling(config) if "video" in encoded else None
        self.temporal = nn.ModuleDict({m: TemporalBlock(widths[m], config) for m in encoded})
        self.projector = nn.ModuleDict({b: nn.Linear(dim, dim) for b in branches})
        self.general = nn.ModuleDict({b: ReluLinear(dim, dim) for b in branches})
        self.specific = nn.ModuleDict({b: ReluLinear(dim, dim) for b in branches})
        self.decoders = nn.ModuleDict({m: VectorDecoder(dim, dim, dim) for m in modalities})
        self.club = nn.ModuleDict({b: ClubNet(dim, dim, config.club_hidden) for b in branches})

    def encode(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Tensor:
        """Features [B, T, ...] of an `encoded` modality -> [B, T, D]."""
        x = self.pooling(features) if modality == "video" and self.pooling is not None else features
        z: Tensor = self.temporal[modality](x, mask)
        return z

    def project(self, modality: Modality, fine: Tensor) -> Tensor:
        """Fine vectors, or their time mean, [..., D] -> [..., D]."""
        projected: Tensor = self.projector[branch_of(modality)](fine)
        return projected

    def general_of(self, modality: Modality, projected: Tensor) -> Tensor:
        """Projected vectors [..., D] -> the vectors that are quantised."""
        general: Tensor = self.general[branch_of(modality)](projected)
        return general

    def specific_of(self, modality: Modality, projected: Tensor) -> Tensor:
        """Projected vectors [..., D] -> what is left."""
        specific: Tensor = self.specific[branch_of(modality)](projected)
        return specific

    def encoder(self) -> nn.Module:
        """All but decoders and CLUB nets."""
        parts: list[nn.Module] = [self.temporal, self.projector, self.general, self.specific]
        return nn.ModuleList(parts if self.pooling is None else [self.pooling, *parts])

    def reconstruction(
        self, projected: Mapping[str, Tensor], specific: Mapping[str, Tensor], vectors: Mapping[str, Tensor]
    ) -> Losses:
        """The projected vectors from the specific and the quantised ones, all [B, D]."""
        return {
            f"reconstruction/coarse_{m}": F.mse_loss(decoder(specific[m], vectors[m]), projected[m])
            for m, decoder in self.decoders.items()
        }


def by_branch(vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Vectors [B, D] by modality -> [B or 2 B, D] by branch, clip after clip whatever the number of processes."""
    branches: dict[str, list[Tensor]] = {}
    for modality, vector in vectors.items():
        branches.setdefault(branch_of(modality), []).append(vector)
    return {branch: torch.stack(parts, dim=1).flatten(0, 1) for branch, parts in branches.items()}
