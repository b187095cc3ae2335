"""Finite scalar quantisation: a few channels, each rounded to a few values; no codebook to move or to collapse.

F. Mentzer et al. 2023, *Finite Scalar Quantization: VQ-VAE Made Simple*.

C channels that are rounded, D channels of the model, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config import CodebookConfig
from training.quantizers.precision import without_autocast
from training.quantizers.quantizer import Assignment, Quantized, Quantizer
from training.quantizers.usage import usage

# The paper's: keeps the ends of a channel's range away from the next value.
_EPSILON = 1e-3


class FiniteScalarQuantizer(Quantizer):
    """`config.fsq_levels` values in each of C channels, between two learned projections; K is their product.

    Gradients pass through the rounding unchanged and reach both projections. FSQ needs no commitment; where that
    loss is kept it draws latents towards what their codes, and their partners' codes, decode to, and so brings
    modalities together without moving the projections.
    """

    levels = 1
    widths: Tensor
    radix: Tensor

    def __init__(self, config: CodebookConfig, dim: int) -> None:
        super().__init__()
        widths = config.fsq_levels
        self.size = math.prod(widths)
        self.compress = nn.Linear(dim, len(widths))
        self.expand = nn.Linear(len(widths), dim)
        radix = [math.prod(widths[:channel]) for channel in range(len(widths))]
        self.register_buffer("widths", torch.tensor(widths), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    def assign(self, latents: Tensor) -> Assignment:
        """As `Quantizer` says; a margin is how far the channel nearest to another value is from turning to it.

        That is in steps of the bounded channel, 0 to 0.5.
        """
        bounded = self.bounded(latents)
        # Between a value and the next: an end of the range has a boundary on one side alone.
        margins = (bounded - bounded.floor() - 0.5).abs().amin(dim=-1)
        return Assignment(self._codes(bounded.round()), margins.unsqueeze(-1))

    def decode(self, codes: Tensor) -> Tensor:
        """What the values of each channel expand to."""
        return self._expanded(torch.floor_divide(codes, self.radix) % self.widths - self._half())

    def table(self) -> Tensor:
        """All K codes decoded."""
        return self.decode(torch.arange(self.size, device=self.radix.device).unsqueeze(-1))

    def quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        """As `Quantizer` says; nothing moves but by gradients, and nothing is drawn."""
        bounded = {name: self.bounded(z) for name, z in latents.items()}
        codes = {name: self._codes(b.detach().round()) for name, b in bounded.items()}
        vectors = {name: self._expanded(b + (b.round() - b).detach()) for name, b in bounded.items()}
        rows = {name: v.detach() for name, v in vectors.items()}
        return Quantized(codes, rows, vectors, distances=None)

    def usage(self, codes: Mapping[str, Tensor]) -> dict[str, float]:
        """As `training.quantizers.usage` says."""
        return usage(codes, self.size)

    def _half(self) -> Tensor:
        return torch.floor_divide(self.widths, 2)

    def bounded(self, latents: Tensor) -> Tensor:
        """Latents [..., D] -> channels [..., C] whose rounding has as many values as it should.

        An even number of values lies half a step off centre; the shift keeps zero near zero all the same.
        """
        widths = self.widths.to(self.compress.weight.dtype)
        reach = (widths - 1) * (1 - _EPSILON) / 2
        offset = 0.5 - 0.5 * (widths % 2)
        with without_autocast(latents.device):
            channels: Tensor = self.compress(latents.to(widths.dtype))
        return torch.tanh(channels + torch.tan(offset / reach)) * reach - offset

    def _codes(self, values: Tensor) -> Tensor:
        """Whole numbers [..., C] -> codes i64 [..., 1], the first channel counting fastest."""
        digits = values.to(torch.int64) + self._half()
        return (digits * self.radix).sum(dim=-1, keepdim=True)

    def _expanded(self, values: Tensor) -> Tensor:
        """Whole numbers [..., C] -> vectors [..., D]; a channel's values are scaled to -1 to 1."""
        scaled = values.to(self.expand.weight.dtype) / self._half()
        with without_autocast(values.device):
            vectors: Tensor = self.expand(scaled)
        return vectors
