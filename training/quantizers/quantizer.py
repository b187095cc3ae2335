"""What a quantiser is to a model: latents in, codes and straight-through vectors out.

D channels, L codes a position, K codes to choose from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Assignment(NamedTuple):
    """Nearest codes i64 [..., L], and by how much the second nearest is farther, f32 [..., L]."""

    codes: Tensor
    margins: Tensor


@dataclass(frozen=True)
class Quantized:
    """What quantising one batch gives, for each modality."""

    codes: dict[str, Tensor]  # i64 [..., L]
    rows: dict[str, Tensor]  # [..., D]: what the codes stand for, before this step's update, without gradient
    vectors: dict[str, Tensor]  # [..., D]: straight-through, the gradient goes to the latents
    distances: (
        dict[str, Tensor] | None
    )  # [..., K]: squared, to every code; None where codes are not rows of a table


class Quantizer(nn.Module, ABC):
    """A discrete bottleneck that modalities share."""

    levels: int
    """L: how many codes it gives a position."""

    @abstractmethod
    def assign(self, latents: Tensor) -> Assignment:
        """Codes of `latents` [..., D]. Inference: exported as it stands, so nothing here depends on values."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """What `codes` i64 [..., L] stand for, [..., D]."""

    @abstractmethod
    def table(self) -> Tensor:
        """Every vector that a code can stand for, [K, D]; of a residual quantiser the rows of all its codebooks."""

    @abstractmethod
    def quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        """Quantise `latents` [B, T, D] of several modalities, aligned in time.

        In training mode this moves the codebook of all processes alike. `generator` is in the same state in every
        process.
        """

    @abstractmethod
    def usage(self, codes: Mapping[str, Tensor]) -> dict[str, float]:
        """Of one batch's `codes`: perplexity and share of the codes in use, overall and by modality."""
