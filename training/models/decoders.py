"""Decoders: a general and a specific vector -> what they were made from (docs/models.md 1.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config import ModelConfig
from training.models.convolutions import MapConvTranspose2d
from training.models.encoders import ResidualBlock


class VectorDecoder(nn.Module):
    """Linear of the general vector, concatenated in front of the specific one, linear to the target."""

    def __init__(self, general_dim: int, specific_dim: int, output_dim: int) -> None:
        super().__init__()
        self.general = nn.Linear(general_dim, specific_dim)
        self.output = nn.Linear(2 * specific_dim, output_dim)

    def forward(self, specific: Tensor, general: Tensor) -> Tensor:
        """[..., specific_dim] and [..., general_dim] -> [..., output_dim]."""
        reconstruction: Tensor = self.output(torch.cat([self.general(general), specific], dim=-1))
        return reconstruction


class VideoDecoder(nn.Module):
    """Transposed convolutions from the specific map, with the general vector repeated over its cells."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.video_hidden
        self.general = nn.Linear(config.dim, config.dim)
        self.convolutions = nn.Sequential(
            MapConvTranspose2d(config.dim + second, first, 3),
            ResidualBlock(first),
            MapConvTranspose2d(first, config.video_dim, 3),
            nn.ReLU(inplace=True),
            MapConvTranspose2d(config.video_dim, config.video_dim, 1),
        )

    def forward(self, specific_map: Tensor, general: Tensor) -> Tensor:
        """[B * T, C2, h, w] and [B, T, dim] -> [B, T, G, G, C]."""
        batch, time = general.shape[:2]
        cells = self.general(general).flatten(0, 1)[:, :, None, None].expand(-1, -1, *specific_map.shape[2:])
        maps: Tensor = self.convolutions(torch.cat([cells, specific_map], dim=1))
        return maps.permute(0, 2, 3, 1).reshape(batch, time, *maps.shape[2:], maps.shape[1])
