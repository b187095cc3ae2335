"""One code a position: the row of one shared codebook that is nearest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import CodebookConfig
from training.quantizers.ema import EMACodebook
from training.quantizers.quantizer import Assignment, Quantized, Quantizer
from training.quantizers.usage import usage


class VectorQuantizer(Quantizer):
    """An EMA codebook of `config.size` rows as a quantiser of one level (docs/models.md 2)."""

    levels = 1

    def __init__(self, config: CodebookConfig, dim: int) -> None:
        super().__init__()
        self.codebook = EMACodebook(config, dim)

    def assign(self, latents: Tensor) -> Assignment:
        """As `Quantizer` says; margins are Euclidean distances."""
        codes, margins = self.codebook.assign(latents)
        return Assignment(codes.unsqueeze(-1), margins.unsqueeze(-1))

    def decode(self, codes: Tensor) -> Tensor:
        """Rows of the codebook."""
        return F.embedding(codes.squeeze(-1), self.codebook.table)

    def table(self) -> Tensor:
        """The codebook."""
        return self.codebook.table

    def quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        """As `Quantizer` says."""
        quantized = self.codebook.quantize(latents, generator)
        return replace(quantized, codes={m: index.unsqueeze(-1) for m, index in quantized.codes.items()})

    def usage(self, codes: Mapping[str, Tensor]) -> dict[str, float]:
        """As `training.quantizers.usage` says."""
        return usage(codes, self.codebook.config.size)
