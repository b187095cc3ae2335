"""The EMA codebook: one alphabet, moved by the vectors that several modalities assign to it.

Sums and counts are the truth and persist; the table is derived from them. Training does all of this in float32 (in
float64 where the module is), under autocast too. docs/models.md 2 has the published update.

M modalities, P positions (clips and segments together), K codes, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import CodebookConfig
from training.distributed import all_reduce_sum, gather, world_size
from training.quantizers.partners import mix_partners
from training.quantizers.precision import without_autocast
from training.quantizers.quantizer import Assignment, Quantized
from training.quantizers.statistics import count_and_sum, refine, squared_distances

# As released: a code used in the last so many steps is active, fit to be copied (docs/models.md 2.4).
_ACTIVE_STEPS = 100

# The count below which an unused code no longer fades: float32 would lose its row on the way to zero.
_LEAST_COUNT = 1e-6


class EMACodebook(nn.Module):
    """`size` codes of `dim` channels, updated by exponential moving averages, never by gradients.

    Codes have no axis for levels here. All processes move it alike: sums are added up, draws come from a generator
    that is in the same state everywhere, and vectors are drawn from those of all processes.
    """

    sums: Tensor
    counts: Tensor
    idle: Tensor
    started: Tensor
    paper_table: Tensor

    def __init__(self, config: CodebookConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        # Counts of one bound the first update; the released counts of zero throw unused codes far out.
        paper = config.update == "paper"
        bound = 1 / (400 if paper else config.size)  # as released, whatever the size
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

    def assign(self, latents: Tensor) -> Assignment:
        """Nearest codes [...] of `latents` [..., D], the first one on ties; margins [...] are Euclidean distances.

        Inference: exported as it stands, so nothing here may depend on values.
        """
        with without_autocast(latents.device):
            squared = squared_distances(latents, self.table)
        codes = squared.argmin(dim=-1)
        distances = squared.clamp(min=0).sqrt()
        nearest = distances.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
        others = torch.arange(self.config.size, device=codes.device) != codes.unsqueeze(-1)
        second = torch.where(others, distances, torch.inf).amin(dim=-1)
        return Assignment(codes, second - nearest)

    def quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        """Quantise `latents` [B, T, D] of several modalities, aligned in time; codes are [B, T].

        In training mode this moves the codebook; rows are taken from it as it was before (docs/models.md 2.1).
        """
        with without_autocast(self.sums.device):
            return self._quantize(latents, generator)

    def _quantize(self, latents: Mapping[str, Tensor], generator: torch.Generator) -> Quantized:
        detached_MBTD = torch.stack([z.detach().to(self.sums.dtype) for z in latents.values()])
        if self.training and not self.started:
            self._start(detached_MBTD, generator)
        table = self.table.clone()
        distances = {name: squared_distances(z, table) for name, z in latents.items()}
        codes = {name: squared.argmin(dim=-1) for name, squared in distances.items()}
        rows = {name: F.embedding(index, table) for name, index in codes.items()}
        vectors = {name: z + (rows[name] - z).detach() for name, z in latents.items()}
        if self.training:
            self._update(detached_MBTD, torch.stack([*codes.values()]), generator)
        return Quantized(codes, rows, vectors, distances)

    def _start(self, latents_MBTD: Tensor, generator: torch.Generator) -> None:
        """Take k-means of the first batch as codes."""
        size, vectors_PD = self.config.size, _by_position(latents_MBTD)
        rows = refine(_draw(vectors_PD, size, generator), vectors_PD)
        self._set(torch.arange(size, device=rows.device), rows)
        self.started.fill_(True)

    def _set(self, chosen: Tensor, rows: Tensor) -> None:
        """Give the codes `chosen`, i64, new rows that the next update keeps: sums and counts move with them."""
        self.sums[chosen] = rows
        self.counts[chosen] = 1.0
        if self.config.update == "paper":
            self.paper_table[chosen] = rows

    @torch.no_grad()
    def _update(self, latents_MBTD: Tensor, codes_MBT: Tensor, generator: torch.Generator) -> None:
        mixed_MPD = mix_partners(latents_MBTD, self.config.partners).flatten(1, -2)
        counts_MK, sums_MKD = count_and_sum(codes_MBT.flatten(1), mixed_MPD, self.config.size)
        all_reduce_sum(counts_MK, sums_MKD)
        if self.config.update == "paper":
            self._move_in_turn(counts_MK, sums_MKD)
        else:
            self._move_at_once(counts_MK.sum(dim=0), sums_MKD.sum(dim=0))
        if self.config.reset != "none":
            self._replace_dead(counts_MK.sum(dim=0), latents_MBTD, generator)

    def _move_at_once(self, counts_K: Tensor, sums_KD: Tensor) -> None:
        """One step for all modalities (Xia et al. 2023, equation 7)."""
        fading_K = (counts_K > 0) | (self.counts > _LEAST_COUNT)
        self._move(torch.where(fading_K, self.config.decay, 1.0), counts_K, sums_KD)

    def _move_in_turn(self, counts_MK: Tensor, sums_MKD: Tensor) -> None:
        """As released: one modality after the other, with Laplace smoothing after each (docs/models.md 2.3)."""
        epsilon = 1e-5
        decay_K = torch.full_like(self.counts, self.config.decay)
        for counts_K, sums_KD in zip(counts_MK, sums_MKD, strict=True):
            self._move(decay_K, counts_K, sums_KD)
            total = self.counts.sum()
            smoothed = (self.counts + epsilon) / (total + self.config.size * epsilon) * total
            self.counts.copy_(smoothed)
            self.paper_table.copy_(self.sums / self.counts.unsqueeze(-1))

    def _move(self, decay_K: Tensor, counts_K: Tensor, sums_KD: Tensor) -> None:
        self.counts.mul_(decay_K).add_(counts_K, alpha=1 - self.config.decay)
        self.sums.mul_(decay_K.unsqueeze(-1)).add_(sums_KD, alpha=1 - self.config.decay)

    def _replace_dead(self, counts_K: Tensor, latents_MBTD: Tensor, generator: torch.Generator) -> None:
        """Move codes that nothing has used for `reset_after` steps to vectors of this batch."""
        self.idle.copy_(torch.where(counts_K > 0, 0, self.idle + 1))
        # Counts are those of all processes: each finds the same codes dead, and all of them gather or none.
        dead = torch.nonzero(self.idle > self.config.reset_after).flatten()
        if len(dead) == 0:
            return
        if self.config.reset == "paper":
            self._replace_rows_only(dead, generator)
        else:
            self._set(dead, _draw(_by_position(latents_MBTD), len(dead), generator))
        self.idle[dead] = 0

    def _replace_rows_only(self, dead: Tensor, generator: torch.Generator) -> None:
        """As released: rows of active codes with a little noise; the next step undoes it (docs/models.md 2.4)."""
        active = torch.nonzero(self.idle < _ACTIVE_STEPS).flatten()
        chosen = torch.randint(len(active), (len(dead),), generator=generator).to(active.device)
        rows = self.table[active[chosen]]
        noise = (2 * torch.rand(rows.shape, generator=generator) - 1) / 1024
        self.paper_table[dead] = rows + noise.to(rows)


def _by_position(latents_MBTD: Tensor) -> Tensor:
    """Vectors [B*T*M, D]: of all processes together they lie as those of one process with the whole batch."""
    return latents_MBTD.flatten(1, -2).transpose(0, 1).flatten(0, 1)


def _draw(vectors_PD: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """So many of the vectors of all processes [wanted, D], none twice.

    Where there are fewer of them than wanted, a little noise tells their copies apart.
    """
    available = len(vectors_PD) * world_size()
    order = torch.randperm(available, generator=generator)[torch.arange(wanted) % available]
    everything_PD = gather(vectors_PD)
    rows = everything_PD[order.to(vectors_PD.device)]
    if wanted <= available:
        return rows
    noise = torch.randn(rows.shape, generator=generator).to(rows)
    return rows + 0.01 * everything_PD.std(correction=0) * noise
