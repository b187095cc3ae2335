"""The EMA codebook: one alphabet, moved by the vectors that several modalities assign to it.

Sums and counts are the truth and persist; the table is derived from them. Training does all of this in
float32, under autocast too. docs/fcid.md 2 has the published update.

M modalities, P positions (clips and segments together), K codes, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import CodebookConfig
from training.distributed import all_reduce_sum, of_first_process

# As released: a code used in the last so many steps is active, fit to be copied (docs/fcid.md 2.4).
_ACTIVE_STEPS = 100


class Assignment(NamedTuple):
    """Nearest codes [...] i64, and how much farther the second nearest is [...] f32."""

    codes: Tensor
    margins: Tensor


@dataclass(frozen=True)
class Quantized:
    """What quantising one batch gives, for each modality."""

    codes: dict[str, Tensor]  # [...]
    rows: dict[str, Tensor]  # [..., D]: the codebook rows before this step's update, without gradient
    vectors: dict[str, Tensor]  # [..., D]: straight-through, the gradient goes to the latents unchanged
    distances: dict[str, Tensor]  # [..., K]: squared, to the codebook before this step's update


class EMACodebook(nn.Module):
    """`size` codes of `dim` channels, updated by exponential moving averages, never by gradients."""

    sums: Tensor
    counts: Tensor
    idle: Tensor
    started: Tensor
    paper_table: Tensor

    def __init__(self, config: CodebookConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        # Counts of one bound the first update; the released counts of zero throw unused codes far out.
        bound = 1 / config.size
        paper = config.update == "paper"
        self.register_buffer("sums", torch.empty(config.size, dim).uniform_(-bound, bound))
        self.register_buffer("counts", torch.full((config.size,), 0.0 if paper else 1.0))
        self.register_buffer("idle", torch.full((config.size,), -1.0 if paper else 0.0))
        self.register_buffer("started", torch.tensor(config.start == "uniform"))
        # The released reset moves rows away from their statistics: there the table is a state of its own.
        self.register_buffer("paper_table", self.sums.clone() if paper else None)

    @property
    def table(self) -> Tensor:
        """The codebook [K, D]."""
        if self.config.update == "paper":
            return self.paper_table
        return self.sums / self.counts.unsqueeze(-1)

    def _distances(self, latents: Tensor, table: Tensor) -> Tensor:
        """Squared Euclidean distances [..., K] of `latents` [..., D] to the rows of `table`."""
        latents = latents.to(table.dtype)
        squares = latents.square().sum(-1, keepdim=True) + table.square().sum(-1)
        return squares - 2 * (latents @ table.T)

    def assign(self, latents: Tensor) -> Assignment:
        """Nearest codes of `latents` [..., D], the first one on ties; margins are Euclidean distances.

        Inference: exported as it stands, so nothing here may depend on values.
        """
        squared = self._distances(latents, self.table)
        codes = squared.argmin(dim=-1)
        distances = squared.clamp(min=0).sqrt()
        nearest = distances.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
        others = torch.arange(self.config.size, device=codes.device) != codes.unsqueeze(-1)
        second = torch.where(others, distances, torch.inf).amin(dim=-1)
        return Assignment(codes, second - nearest)

    def quantize(self, latents: Mapping[str, Tensor]) -> Quantized:
        """Quantise time-aligned `latents` [..., D] of several modalities, each [..., D].

        In training mode this moves the codebook; rows are taken from it as it was before (docs/fcid.md 2.1).
        """
        with torch.autocast(self.sums.device.type, enabled=False):
            return self._quantize(latents)

    def _quantize(self, latents: Mapping[str, Tensor]) -> Quantized:
        detached = {name: z.detach().to(self.sums.dtype) for name, z in latents.items()}
        if self.training and not self.started:
            self._start(detached)
        codes = {name: self.assign(z).codes for name, z in detached.items()}
        table = self.table.clone()
        distances = {name: self._distances(z, table) for name, z in latents.items()}
        rows = {name: F.embedding(index, table) for name, index in codes.items()}
        vectors = {name: z + (rows[name] - z).detach() for name, z in latents.items()}
        if self.training:
            self._update(detached, codes)
        return Quantized(codes, rows, vectors, distances)

    def usage(self, codes: Mapping[str, Tensor]) -> dict[str, float]:
        """Of one batch's `codes`: perplexity and share of the codebook in use, overall and by modality."""
        size = self.config.size
        counts = {name: torch.bincount(index.flatten(), minlength=size) for name, index in codes.items()}
        all_reduce_sum(*counts.values())
        everything = torch.stack([*counts.values()]).sum(dim=0)
        figures = {"perplexity": _perplexity(everything), "used": _share_in_use(everything)}
        for name, count in counts.items():
            figures |= {f"perplexity_{name}": _perplexity(count), f"used_{name}": _share_in_use(count)}
        return figures

    def _start(self, latents: Mapping[str, Tensor]) -> None:
        """Take vectors of the first batch as codes; a little noise tells apart those that are taken twice."""
        vectors = torch.cat([z.flatten(0, -2) for z in latents.values()])
        size = self.config.size
        order = torch.randperm(len(vectors), device=vectors.device)
        rows = vectors[order[torch.arange(size, device=vectors.device) % len(vectors)]]
        noise = 0.01 * vectors.std() * torch.randn_like(rows)
        self._set(torch.ones(size, dtype=torch.bool, device=rows.device), of_first_process(rows + noise))
        self.started.fill_(True)

    def _set(self, chosen_K: Tensor, rows: Tensor) -> None:
        """Give the chosen codes new rows that the next update keeps: sums and counts move with them."""
        self.sums[chosen_K] = rows
        self.counts[chosen_K] = 1.0
        if self.config.update == "paper":
            self.paper_table[chosen_K] = rows

    @torch.no_grad()
    def _update(self, latents: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
        stacked_MPD = torch.stack([z.flatten(0, -2) for z in latents.values()])
        codes_MP = torch.stack([index.flatten() for index in codes.values()])
        mixed_MPD = _mix_partners(stacked_MPD)
        one_hot_MPK = F.one_hot(codes_MP, self.config.size).to(self.sums.dtype)
        counts_MK = one_hot_MPK.sum(dim=1)
        sums_MKD = one_hot_MPK.transpose(1, 2) @ mixed_MPD
        all_reduce_sum(counts_MK, sums_MKD)
        if self.config.update == "paper":
            self._move_in_turn(counts_MK, sums_MKD)
        else:
            self._move(counts_MK.sum(dim=0), sums_MKD.sum(dim=0))
        self._replace_dead(counts_MK.sum(dim=0), stacked_MPD.flatten(0, 1))

    def _move(self, counts_K: Tensor, sums_KD: Tensor) -> None:
        decay = self.config.decay
        self.counts.mul_(decay).add_(counts_K, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums_KD, alpha=1 - decay)

    def _move_in_turn(self, counts_MK: Tensor, sums_MKD: Tensor) -> None:
        """As released: one modality after the other, with Laplace smoothing after each (docs/fcid.md 2.3)."""
        epsilon = 1e-5
        for counts_K, sums_KD in zip(counts_MK, sums_MKD, strict=True):
            self._move(counts_K, sums_KD)
            total = self.counts.sum()
            smoothed = (self.counts + epsilon) / (total + self.config.size * epsilon) * total
            self.counts.copy_(smoothed)
            self.paper_table.copy_(self.sums / self.counts.unsqueeze(-1))

    def _replace_dead(self, counts_K: Tensor, vectors_PD: Tensor) -> None:
        """Move codes that nothing has used for `reset_after` steps to vectors of this batch."""
        if self.config.reset == "off":
            return
        self.idle.copy_(torch.where(counts_K > 0, 0, self.idle + 1))
        dead = self.idle > self.config.reset_after
        if not dead.any():
            return
        if self.config.reset == "paper":
            self._replace_rows_only(dead)
        else:
            chosen = torch.randint(len(vectors_PD), (int(dead.sum()),), device=vectors_PD.device)
            self._set(dead, of_first_process(vectors_PD[chosen]))
        self.idle[dead] = 0

    def _replace_rows_only(self, dead_K: Tensor) -> None:
        """As released: rows of active codes with a little noise; the next step undoes it (docs/fcid.md 2.4)."""
        active = torch.nonzero(self.idle < _ACTIVE_STEPS).flatten()
        chosen = active[torch.randint(len(active), (int(dead_K.sum()),), device=active.device)]
        rows = self.table[chosen]
        noise = torch.empty_like(rows).uniform_(-1 / 1024, 1 / 1024)
        self.paper_table[dead_K] = of_first_process(rows + noise)


def _mix_partners(stacked_MPD: Tensor) -> Tensor:
    """Half of each vector and half the mean of its partners at the same position (docs/fcid.md 2.3)."""
    modalities = len(stacked_MPD)
    if modalities == 1:
        return stacked_MPD
    others_MPD = (stacked_MPD.sum(dim=0, keepdim=True) - stacked_MPD) / (modalities - 1)
    return (stacked_MPD + others_MPD) / 2


def _perplexity(counts_K: Tensor) -> float:
    return float(torch.special.entr(counts_K / counts_K.sum()).sum().exp())


def _share_in_use(counts_K: Tensor) -> float:
    return float((counts_K > 0).float().mean())
