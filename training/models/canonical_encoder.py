"""An encoder that starts as a linear projection and learns what to add to it.

B batch, T segments, C channels, D width of the model, H width of the transformer.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import ModelConfig
from training.correlation import Moments, aligned_features
from training.models.encoders import spatial_mean
from training.models.task import Batch
from training.quantizers.precision import without_autocast

Floats = NDArray[np.float64]

# A direction in which modalities agree entirely would drown all others.
_MOST_CORRELATED = 0.99

# Of a random start, for directions in which nothing correlates.
_FAINT = 0.1


class CanonicalEncoder(nn.Module):
    """A linear map of every segment, and beside it pre-norm transformer layers whose output starts at zero."""

    def __init__(self, input_dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(input_dim, config.dim)
        self.entry = nn.Linear(input_dim, config.width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                config.feed_forward,
                config.dropout,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.exit = nn.Linear(config.width, config.dim)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    @torch.no_grad()
    def start(self, mean: Floats, deviation: Floats, matrix: Floats) -> None:
        """Start as the projection (x - mean) @ matrix, [C] and [C, up to D]; the transformer sees x standardised.

        Directions that `matrix` lacks or has as zeros stay random and faint: zeros in all modalities would stay zeros.
        """
        scale = torch.from_numpy(np.where(deviation > 0, deviation, 1))
        for layer, faint in ((self.projection, _FAINT), (self.entry, 1.0)):
            layer.weight.copy_(faint * layer.weight.double() / scale)
        found = torch.from_numpy(np.flatnonzero(matrix.any(axis=0)))
        self.projection.weight[found] = torch.from_numpy(matrix.T).to(self.projection.weight)[found]
        for layer in (self.projection, self.entry):
            layer.bias.copy_(-layer.weight.double() @ torch.from_numpy(mean))

    def forward(self, x_BTC: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """[B, T, C], or maps [B, T, G, G, C] -> [B, T, D]; segments where `mask` is False are not attended to."""
        x_BTC = spatial_mean(x_BTC)
        padding_BT = None if mask_BT is None else ~mask_BT
        h_BTH: Tensor = self.entry(x_BTC)
        for layer in self.layers:
            h_BTH = layer(h_BTH, src_key_padding_mask=padding_BT)
        added_BTD: Tensor = self.exit(self.norm(h_BTH))
        # Whitening makes much of small differences, which half precision would round away.
        with without_autocast(x_BTC.device):
            z_BTD: Tensor = self.projection(x_BTC.to(self.projection.weight.dtype)) + added_BTD
        return z_BTD


def start_encoders(encoders: nn.ModuleDict, clips: Iterable[Batch], config: ModelConfig) -> None:
    """Start the encoders of all modalities as the canonical correlation analysis of `clips`, if `config` says so.

    A direction of correlation r is scaled by sqrt(r / (1 - r^2)): of Gaussian vectors of unit variance, products are
    then the cross terms of the log density of one given the other, and distances count what modalities share.
    """
    if config.start == "random":
        return
    moments = Moments()
    for batch in clips:
        moments.add(aligned_features(batch, [*encoders]))
    found = moments.correlated(config.dim)
    shared = found.correlations.clip(0, _MOST_CORRELATED)
    weights = np.sqrt(shared / (1 - shared**2))
    deviations = moments.deviations
    for modality, view in found.views.items():
        encoder = encoders[modality]
        assert isinstance(encoder, CanonicalEncoder)
        encoder.start(view.mean, deviations[modality], view.matrix * weights)
