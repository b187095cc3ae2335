"""What a codes graph computes: encoder and quantiser of one modality, the codebook cut to the kept channels.

B batch, T segments, D channels, Q kept channels of all quantisers together, L codes a position, K codes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.lstm import replace_lstms
from tessera.comparison import CLIP, SEGMENTS, Outputs, Tally
from tessera.signatures import codes_outputs
from tessera.windows import Modality
from training.models.fcid import FCID
from training.models.hdcid import HDCID
from training.models.task import TaskModule
from training.quantizers.fsq import FiniteScalarQuantizer
from training.quantizers.quantizer import Quantizer


class CodesGraph(nn.Module):
    """Features of one modality -> codes, margins, embeddings and latents of segments, and of the clip where it has any.

    Assignment uses all channels; embeddings are rows of codebooks already cut to those that are kept.
    """

    def __init__(
        self,
        model: TaskModule[Any],
        modality: Modality,
        kept: Sequence[Sequence[int]],
        slots: int | None = None,
    ) -> None:
        """`kept` channels of each quantiser. With `slots` the model sees that many, of which the last may be empty."""
        super().__init__()
        replace_lstms(model)
        self.model = model
        self.modality: Modality = modality
        self.slots = slots
        self.precision = torch.float32
        self.tables = nn.ModuleList(
            _KeptRows(quantizer.table().detach().float().chunk(quantizer.levels), channels)
            for quantizer, channels in zip(model.levels(), kept, strict=True)
        )

    @property
    def clip_codes(self) -> bool:
        """Whether the clip as a whole has codes."""
        return isinstance(self.model, FCID)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs in their order."""
        return tuple(codes_outputs(1, 1, self.clip_codes))

    def halved(self) -> CodesGraph:
        """A copy whose encoders compute in half precision; codebooks, distances and codes stay in full precision."""
        half = copy.deepcopy(self)
        for name, part in half.model.named_children():
            if name != "quantizers":
                part.half()
        half.precision = torch.float16
        return half

    @property
    def spread(self) -> float:
        """How far the rows of a codebook lie from their mean, of the codebook where they lie closest.

        In what margins are measured in; of finite scalars those are the steps of a channel, which are one apart.
        """
        tables = (
            table
            for quantizer in self.model.levels()
            if not isinstance(quantizer, FiniteScalarQuantizer)
            for table in quantizer.table().detach().float().chunk(quantizer.levels)
        )
        spreads = ((table - table.mean(dim=0)).square().sum(dim=1).mean().sqrt().item() for table in tables)
        return min(spreads, default=1.0)

    @property
    def dim(self) -> int:
        """All channels of a latent."""
        return next(self.model.levels()).table().shape[1]

    def tally(self) -> Tally:
        """What counts how codes of this model differ: residual ones of one quantiser as one."""
        return Tally(next(self.model.levels()).levels)

    @torch.no_grad()
    def by_torch(self, features: Tensor, mask: Tensor | None = None) -> Outputs:
        """Every output by name, as a graph gives them."""
        outputs = zip(self.output_names, self(features, mask), strict=True)
        return {name: tensor.numpy() for name, tensor in outputs}

    @torch.no_grad()
    def reach(self, features: Tensor, others: Tensor) -> Outputs:
        """By how much margins can differ at most between `features` and `others` [B, T, ...]; by their names.

        That is twice the way between what is assigned: no distance to a code changes by more (triangle inequality).
        """
        pairs = zip(self._latents(features), self._latents(others), strict=True)
        return {
            names[1]: torch.cat(
                [2 * way for way in map(_way, self.model.levels(), one, other)], dim=-1
            ).numpy()
            for names, (one, other) in zip((SEGMENTS, CLIP), pairs, strict=False)
        }

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """[B, T, ...] -> codes, margins [B, T, L], embeddings, latents [B, T, Q], and the four of the clip.

        `mask` bool [B, T] is for padded features, as in training; graphs are given none.
        """
        outputs = [self._quantised(latents) for latents in self._latents(features, mask)]
        return tuple(output for part in outputs for output in part)

    def _latents(self, features: Tensor, mask: Tensor | None = None) -> list[list[Tensor]]:
        """Of the segments [B, T, D] for each quantiser, and of the clip [B, D] where it has any."""
        seen = features if self.slots is None else _filled(features, self.slots)
        seen = seen.to(self.precision)
        if isinstance(self.model, FCID):
            segments, clip = self.model.segment_and_clip_latents(self.modality, seen, mask)
            return [[segments[:, : features.shape[1]]], [clip]]
        latents = self.model.segment_latents(self.modality, seen, mask)
        return [[z[:, : features.shape[1]] for z in latents]]

    def _quantised(self, latents: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents [..., D] of each quantiser -> the four outputs, quantiser after quantiser."""
        parts = []
        for quantizer, rows, z in zip(self.model.levels(), self.tables, latents, strict=True):
            codes, margins = quantizer.assign(z.float())
            parts.append(
                (codes, margins, rows(codes), z.float().index_select(-1, rows.get_buffer("channels")))
            )
        codes, margins, embeddings, kept = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
        return codes, margins, embeddings, kept


class _KeptRows(nn.Module):
    """The codebooks of one quantiser on its kept channels; what residual codes stand for adds up."""

    def __init__(self, tables: Sequence[Tensor], channels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("channels", torch.tensor(list(channels)))
        self.register_buffer("rows", torch.stack([table[:, list(channels)] for table in tables]))

    def forward(self, codes: Tensor) -> Tensor:
        """[..., levels] -> [..., channels]."""
        rows = self.get_buffer("rows")
        embedding = F.embedding(codes[..., 0], rows[0])
        for level in range(1, len(rows)):
            embedding = embedding + F.embedding(codes[..., level], rows[level])
        return embedding


def _way(quantizer: Quantizer, one: Tensor, other: Tensor) -> Tensor:
    """How far [..., L] two latents [..., D] lie apart, in what the margins of `quantizer` are measured in."""
    if isinstance(quantizer, FiniteScalarQuantizer):
        one, other = quantizer.bounded(one), quantizer.bounded(other)
    way: Tensor = torch.linalg.vector_norm(one.float() - other.float(), dim=-1, keepdim=True)
    return way.expand(*way.shape[:-1], quantizer.levels)


def needs_maps(model: TaskModule[Any]) -> bool:
    """Whether video codes depend on more than the spatial mean of a feature map (docs/models.md 1.2, 1.3)."""
    return isinstance(model, HDCID) and model.level.maps


def _filled(features: Tensor, slots: int) -> Tensor:
    """[B, T, C] with T up to `slots` -> [B, slots, C]: empty slots are zeros."""
    empty = features.new_zeros(features.shape[0], slots, features.shape[2])
    return torch.cat([features, empty], dim=1)[:, :slots]
