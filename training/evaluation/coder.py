"""From features to codes and vectors: all that a task knows of a model, or of a control.

N clips, T segments, L codes a position, K codes to choose from, Q kept channels of all levels together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import MODALITIES, Modality
from training.data.selection import Selection
from training.evaluation.fitting import seeded
from training.models.encoders import masked_mean
from training.models.fcid import FCID
from training.models.task import TaskModule
from training.quantizers.quantizer import Assignment
from training.toc import select_channels


@dataclass(frozen=True)
class Coded:
    """What clips of one modality became; everything here is a pure function of the codes."""

    codes: Tensor  # i64 [N, T, L]
    real: Tensor  # bool [N, T]: which segments there are
    vectors: Tensor  # [N, T, Q]: what the codes stand for on the kept channels, level after level

    def pooled(self, precision: torch.dtype = torch.float32) -> Tensor:
        """The mean over the segments of a clip [N, Q]: what a bundle serves as `pooled`."""
        return masked_mean(self.vectors.to(precision), self.real)

    def histograms(self, sizes: Sequence[int]) -> Tensor:
        """How often each code of each place occurs in a clip, as shares of its segments, f64 [N, sum of sizes]."""
        return masked_mean(self.one_hot(sizes), self.real)

    def one_hot(self, sizes: Sequence[int]) -> Tensor:
        """The codes of each segment as zeros and ones, f64 [N, T, sum of sizes]."""
        places = [F.one_hot(self.codes[..., place], size) for place, size in enumerate(sizes)]
        return torch.cat(places, dim=-1).double()


class Coder(ABC):
    """A model, or a control in its place."""

    modalities: tuple[Modality, ...]
    sizes: tuple[int, ...]
    """How many codes there are to choose from at each of L places."""

    @abstractmethod
    def encode(self, part: Selection, modality: Modality, dropout_seed: int | None = None) -> Coded:
        """Codes of every segment; with `dropout_seed` the encoder drops out as in training, where it can."""

    def clip_vectors(self, part: Selection, modality: Modality) -> Tensor:
        """One vector a clip, f64 [N, Q], from codes of the clip as a whole, where there are such."""
        return self.encode(part, modality).pooled(torch.float64)


class ModelCoder(Coder):
    """A trained model, with the channels of each level that TOC keeps (None: all of them).

    Features go to the device that the model is on; codes and vectors come back to the processor.

    Raises:
        TrainingError: `keep` channels cannot be kept.
    """

    def __init__(
        self,
        model: TaskModule[Any],
        keep: int | None = None,
        toc_lambda: float = 0.3,
        ratio: tuple[int, int] = (1, 0),
    ) -> None:
        self.model = model
        self.modalities = tuple(m for m in MODALITIES if m in model.modalities)
        tables = [quantizer.table().detach() for quantizer in model.levels()]
        self.kept = [
            select_channels(table, keep or table.shape[1], lambda_=toc_lambda, ratio=ratio)
            for table in tables
        ]
        self.sizes = tuple(
            len(table) // quantizer.levels
            for table, quantizer in zip(tables, model.levels(), strict=True)
            for _ in range(quantizer.levels)
        )

    @torch.no_grad()
    def encode(self, part: Selection, modality: Modality, dropout_seed: int | None = None) -> Coded:
        """As `Coder` says; assignment uses all channels, the kept ones are cut from what the codes stand for."""
        device = next(self.model.parameters()).device
        codes, real = [], []
        with _mode(self.model, dropout_seed):
            for features, mask in part.batches(modality):
                mask = None if mask is None else mask.to(device)
                index = self.model.segment_codes(modality, features.to(device), mask).codes
                codes.append(index)
                real.append(torch.ones_like(index[..., 0], dtype=torch.bool) if mask is None else mask)
        every = torch.cat(codes)
        return Coded(every.cpu(), torch.cat(real).cpu(), self._decode(every).cpu())

    @torch.no_grad()
    def clip_vectors(self, part: Selection, modality: Modality) -> Tensor:
        """As `Coder` says: FCID has clip codes; of other models the mean latent of a clip is quantised."""
        device = next(self.model.parameters()).device
        codes = []
        with _mode(self.model, None):
            for features, mask in part.batches(modality):
                latents = self._clip_latents(
                    modality, features.to(device), None if mask is None else mask.to(device)
                )
                parts: list[Assignment] = [
                    q.assign(z) for q, z in zip(self.model.levels(), latents, strict=True)
                ]
                codes.append(torch.cat([one.codes for one in parts], dim=-1))
        return self._decode(torch.cat(codes)).cpu().double()

    def _clip_latents(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Sequence[Tensor]:
        if isinstance(self.model, FCID):
            return [self.model.clip_latents(modality, features, mask)]
        return [masked_mean(z, mask) for z in self.model.segment_latents(modality, features, mask)]

    def _decode(self, codes: Tensor) -> Tensor:
        """Codes [..., L] -> what they stand for on the kept channels [..., Q]."""
        parts = torch.split(codes, [quantizer.levels for quantizer in self.model.levels()], dim=-1)
        rows = [
            quantizer.decode(one)[..., channels]
            for quantizer, one, channels in zip(self.model.levels(), parts, self.kept, strict=True)
        ]
        return torch.cat(rows, dim=-1)


@contextmanager
def _mode(model: nn.Module, dropout_seed: int | None) -> Iterator[None]:
    """The model as it serves, or with the dropout of training drawn from a seed."""
    if dropout_seed is None:
        model.eval()
        yield
        return
    model.train()
    try:
        with seeded(dropout_seed):
            yield
    finally:
        model.eval()
