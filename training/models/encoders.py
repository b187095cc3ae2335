"""The parts that encoders are made of (docs/models.md 1.1).

B batch, T segments, G grid cells a side, C channels, D width of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from training.config import ModelConfig
from training.models.convolutions import MapConv2d


class TemporalBlock(nn.Module):
    """A linear map to the model's width and post-norm transformer layers without positions."""

    def __init__(self, input_dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.affine = nn.Linear(input_dim, config.dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.dim, config.heads, config.feed_forward, config.dropout, batch_first=True
            )
            for _ in range(config.layers)
        )

    def forward(self, x_BTC: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """[B, T, C] -> [B, T, D]; segments where `mask` is False are not attended to."""
        padding_BT = None if mask_BT is None else ~mask_BT
        z_BTD: Tensor = self.affine(x_BTC)
        for layer in self.layers:
            z_BTD = layer(z_BTD, src_key_padding_mask=padding_BT)
        return z_BTD


class VideoPooling(nn.Module):
    """Squeeze and excitation of the spatial mean m: G^2 m (1 + s), all that a video code depends on."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.cells = config.video_grid**2
        self.squeeze = nn.Linear(config.video_dim, config.squeeze_dim, bias=False)
        self.excite = nn.Linear(config.squeeze_dim, config.video_dim, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, T, G, G, C], or their spatial mean [B, T, C] -> [B, T, C]."""
        mean_BTC = spatial_mean(maps)
        gate_BTC = torch.sigmoid(self.excite(F.relu(self.squeeze(mean_BTC))))
        return self.cells * mean_BTC * (1 + gate_BTC)


class ResidualBlock(nn.Module):
    """Two convolutions around a skip that carries relu(x), not x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = MapConv2d(channels, channels, 3, padding=1, bias=False)
        self.conv1 = MapConv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same shape, not negative; `x` is overwritten."""
        x = F.relu(x, inplace=True)
        y: Tensor = self.conv1(F.relu(self.conv3(x), inplace=True))
        return F.relu(y.add_(x), inplace=True)


class VideoSpecific(nn.Module):
    """What only the picture says: a map for the decoder and a vector for CLUB."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.video_hidden
        self.convolutions = nn.Sequential(
            MapConv2d(config.video_dim, first, 3),
            nn.ReLU(inplace=True),
            MapConv2d(first, second, 3),
            nn.ReLU(inplace=True),
            MapConv2d(second, second, 1),
            ResidualBlock(second),
        )
        self.club_head = nn.Sequential(
            nn.Linear(second, second // 2), nn.ReLU(), nn.Linear(second // 2, config.club_video_dim)
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, G, G, C] -> the map [B * T, C2, G-4, G-4] and the CLUB vector [B, T, club_video_dim]."""
        batch, time = maps.shape[:2]
        features = self.convolutions(maps.flatten(0, 1).permute(0, 3, 1, 2))
        club = self.club_head(features.mean(dim=(2, 3)))
        return features, club.unflatten(0, (batch, time))


class ReluLinear(nn.Module):
    """relu(Linear(x)): the specific encoder of a vector, and the coarse general and specific ones."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., input_dim] -> [..., output_dim], not negative."""
        return F.relu(self.linear(x))


class TextLSTM(nn.Module):
    """The words of a text in their order: a two-layer LSTM in both directions, in front of everything else."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            config.text_dim, config.dim // 2, num_layers=2, batch_first=True, bidirectional=True
        )

    def forward(self, words_BSC: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """[B, S, C] -> [B, S, D]; only slots where `mask` is True are read, zeros come out of the others."""
        if mask_BS is None:
            features: Tensor = self.lstm(words_BSC)[0]
            return features
        lengths = mask_BS.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(words_BSC, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=words_BSC.shape[1])[0]


def spatial_mean(features: Tensor) -> Tensor:
    """Maps [B, T, G, G, C] -> their mean over the cells [B, T, C]; vectors [B, T, C] stay as they are."""
    return features.mean(dim=(2, 3)) if features.dim() == 5 else features


def spread_over_time(z_BSD: Tensor, mask_BS: Tensor | None, time: int) -> Tensor:
    """A text lasts as long as its clip: the words [B, S, D] that fall on each of `time` segments, [B, time, D].

    Without a mask all slots are words; as many slots as segments stay as they are.
    """
    slots_B = z_BSD.new_full((len(z_BSD),), z_BSD.shape[1], dtype=torch.long)
    words_B = slots_B if mask_BS is None else mask_BS.sum(dim=1)
    index_BT = torch.arange(time, device=z_BSD.device) * words_B.unsqueeze(1) // time
    return z_BSD.gather(1, index_BT.unsqueeze(-1).expand(-1, -1, z_BSD.shape[2]))


def masked_mean(z_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Mean over time [B, D] of the segments where `mask` is True."""
    if mask_BT is None:
        return z_BTD.mean(dim=1)
    weight_BT1 = mask_BT.unsqueeze(-1).to(z_BTD.dtype)
    return (z_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1)
