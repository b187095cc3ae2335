"""Several codes a position: each codebook quantises what the ones before it left over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import CodebookConfig
from training.quantizers.ema import EMACodebook
from training.quantizers.quantizer import Assignment, Quantized, Quantizer
from training.quantizers.usage import usage


class ResidualQuantizer(Quantizer):
    """`config.depth` EMA codebooks in a row, as in N. Zeghidour et al. 2021, *SoundStream*.

    A vector stands for the sum of its rows. Each codebook moves by the residuals that reach it, mixed with the
    residuals of the other modalities.
    """

    def __init__(self, config: CodebookConfig, dim: int) -> None:
        super().__init__()
        self.levels = config.depth
        self.codebooks = nn.ModuleList([EMACodebook(config, dim) for _ in range(config.depth)])

    def assign(self, latents: Tensor) -> Assignment:
        """As `Quantizer` says; the margin of a code is the Euclidean distance of the residual that it was given to."""
        residual, codes, margins = latents, [], []
        for book in self._books():
            index, margin = book.assign(residual)
            residual = residual - F.embedding(index, book.table)
            codes.append(index)
            margins.append(margin)
        return Assignment(torch.stack(codes, dim=-1), torch.stack(margins, dim=-1))

    def decode(self, codes: Tensor) -> Tensor:
        """Sums of rows."""
        rows = [F.embedding(codes[..., level], book.table) for level, book in enumerate(self._books())]
        return torch.stack(rows).sum(dim=0)

    def table(self) -> Tensor:
        """The rows of all codebooks, those of the first one first."""
        return torch.cat([book.table for book in self._books()])

    def quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        """As `Quantizer` says; there are no distances, a vector being no row of one table."""
        residuals = {name: z.detach() for name, z in latents.items()}
        codes: dict[str, list[Tensor]] = {name: [] for name in latents}
        rows = {name: torch.zeros_like(z) for name, z in residuals.items()}
        for book in self._books():
            quantized = book.quantize(residuals, generator)
            for name, chosen in quantized.rows.items():
                residuals[name] = residuals[name] - chosen
                rows[name] = rows[name] + chosen
                codes[name].append(quantized.codes[name])
        vectors = {name: z + (rows[name] - z).detach() for name, z in latents.items()}
        stacked = {name: torch.stack(index, dim=-1) for name, index in codes.items()}
        return Quantized(stacked, rows, vectors, distances=None)

    def usage(self, codes: Mapping[str, Tensor]) -> dict[str, float]:
        """As `training.quantizers.usage` says: of the first codebook, and the mean over all of them."""
        return usage(codes, self._size)

    @property
    def _size(self) -> int:
        return next(self._books()).config.size

    def _books(self) -> Iterator[EMACodebook]:
        for book in self.codebooks:
            assert isinstance(book, EMACodebook)
            yield book
