"""What a codes graph computes: encoder, quantiser on all channels, codebook rows cut to the kept channels.

B batch, T segments, D channels, Q kept channels, K codes. Levels are an axis of length one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import Modality
from training.models.fcid import FCID


class FCIDCodes(nn.Module):
    """Features of one modality -> segment codes and the clip code of FCID (docs/models.md 1.4)."""

    def __init__(self, model: FCID, modality: Modality, kept: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.modality: Modality = modality
        self.quantizer = next(model.levels())
        self.kept: Tensor
        self.rows: Tensor
        self.register_buffer("kept", torch.tensor(list(kept)))
        self.register_buffer("rows", self.quantizer.table()[:, list(kept)].detach().clone())

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """[B, T, ...] -> codes, margins [B, T, 1], embeddings, latents [B, T, Q], and the four of the clip."""
        (segments_BTD,) = self.model.segment_latents(self.modality, features)
        clip_BD = self.model.clip_latents(self.modality, features)
        return *self._quantise(segments_BTD), *self._quantise(clip_BD)

    def _quantise(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        codes, margins = self.quantizer.assign(latents)
        embeddings = F.embedding(codes.squeeze(-1), self.rows)
        return codes, margins, embeddings, latents.index_select(-1, self.kept)
