"""Encoders and decoders (docs/models.md 1).

B batch, T segments, N = B * T maps, C channels, G grid cells a side, D width of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig


class TemporalBlock(nn.Module):
    """A linear map and post-norm transformer layers over [T, B, D]."""

    def __init__(self, inputs: int, config: ModelConfig) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, config.dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.dim, config.heads, config.feed_forward, config.dropout)
            for _ in range(config.layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, D]."""
        z: Tensor = self.affine(x).transpose(0, 1).contiguous()
        for layer in self.layers:
            z = layer(z)
        return z.transpose(0, 1).contiguous()


class VideoPooling(nn.Module):
    """Channels gated by their means; a spatial attention whose weights are all one, since it is alone on its axis."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.video_dim
        self.squeeze = nn.Linear(channels, config.squeeze_dim, bias=False)
        self.excite = nn.Linear(config.squeeze_dim, channels, bias=False)
        self.of_mean = nn.Linear(channels, config.dim)
        self.of_cells = nn.Linear(channels, config.dim)
        self.attention = nn.Linear(config.dim, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, T, G, G, C] -> [B, T, C]."""
        batch, time, *_, channels = maps.shape
        cells = maps.reshape(batch * time, -1, channels)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(cells.mean(dim=1)))))
        cells = cells + cells * gate.unsqueeze(1)
        mean = F.relu(self.of_mean(cells.mean(dim=1))).unsqueeze(1)
        score = self.attention(F.relu(self.of_cells(cells)) * mean).transpose(1, 2)
        weights = torch.softmax(score.transpose(1, 2), dim=-1).transpose(1, 2)
        return torch.bmm(weights, cells).reshape(batch, time, channels)


class ResidualBlock(nn.Module):
    """Its first ReLU works in place, so that the skip carries it too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        y = self.block(x)
        return F.relu(x + y)


class VideoSpecific(nn.Module):
    """Convolutions to a map, and its mean to a vector for CLUB."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.video_hidden
        self.convolutions = nn.Sequential(
            nn.Conv2d(config.video_dim, first, 3),
            nn.ReLU(),
            nn.Conv2d(first, second, 3),
            nn.ReLU(),
            nn.Conv2d(second, second, 1),
            ResidualBlock(second),
        )
        self.club_head = nn.Sequential(
            nn.Linear(second, second // 2), nn.ReLU(), nn.Linear(second // 2, config.club_video_dim)
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, G, G, C] -> the map [N, C2, G-4, G-4] and the vector [B, T, .]."""
        batch, time, side, _, channels = maps.shape
        pictures = maps.reshape(batch * time, side, side, channels).permute(0, 3, 1, 2).contiguous()
        features = self.convolutions(pictures)
        vector = self.club_head(features.mean(dim=3).mean(dim=2))
        return features, vector.reshape(batch, time, -1)


class VideoDecoder(nn.Module):
    """The vector repeated over the cells of the map, in front of it; transposed convolutions back to the picture."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.video_hidden
        self.vector = nn.Linear(config.dim, config.dim)
        self.convolutions = nn.Sequential(
            nn.ConvTranspose2d(config.dim + second, first, 3),
            ResidualBlock(first),
            nn.ConvTranspose2d(first, config.video_dim, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(config.video_dim, config.video_dim, 1),
        )

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        """[N, C2, h, h] and [B, T, D] -> [B, T, G, G, C]."""
        batch, time, _ = vectors.shape
        spread = self.vector(vectors).reshape(batch * time, -1, 1, 1)
        spread = spread.repeat(1, 1, features.shape[2], features.shape[3])
        pictures: Tensor = self.convolutions(torch.cat([spread, features], dim=1))
        pictures = pictures.permute(0, 2, 3, 1).contiguous()
        return pictures.reshape(batch, time, *pictures.shape[1:])


class ReluLinear(nn.Module):
    """relu(Linear(x))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.relu(self.linear(x))


class VectorDecoder(nn.Module):
    """Linear of the vector, in front of the specific one, and linear to the target."""

    def __init__(self, inputs: int, specific: int, outputs: int) -> None:
        super().__init__()
        self.vector = nn.Linear(inputs, specific)
        self.output = nn.Linear(2 * specific, outputs)

    def forward(self, specific: Tensor, vectors: Tensor) -> Tensor:
        """[..., specific] and [..., inputs] -> [..., outputs]."""
        result: Tensor = self.output(torch.cat([self.vector(vectors), specific], dim=-1))
        return result
