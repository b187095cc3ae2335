"""Quantisers by the names that recipes use."""

from __future__ import annotations

from training.config import CodebookConfig
from training.quantizers.fsq import FiniteScalarQuantizer
from training.quantizers.quantizer import Quantizer
from training.quantizers.residual import ResidualQuantizer
from training.quantizers.vector import VectorQuantizer


def build_quantizer(config: CodebookConfig, dim: int) -> Quantizer:
    """The quantiser that `config.quantizer` names, for latents of `dim` channels."""
    match config.quantizer:
        case "vq":
            return VectorQuantizer(config, dim)
        case "residual":
            return ResidualQuantizer(config, dim)
        case "fsq":
            return FiniteScalarQuantizer(config, dim)
