"""TOC: which channels of a codebook to keep, without training (docs/models.md 4).

A channel is useful when codes differ in it (variance) and do not share it (similarity).
K codes, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.errors import TrainingError

# Of the mean variance of all channels: in a channel below it, codes are as good as equal.
_DEAD = 1e-3


@dataclass(frozen=True)
class Selection:
    """What TOC makes of one codebook."""

    table: Tensor  # f64 [K, D]
    scores: Tensor  # f64 [D]
    kept: tuple[int, ...]  # ascending
    dead: tuple[int, ...]  # channels that hardly vary from code to code, ascending

    @property
    def kept_table(self) -> Tensor:
        """The codebook on the kept channels, f64 [K, Q]."""
        return self.table[:, list(self.kept)]

    @property
    def variance_kept(self) -> float:
        """The share of the codebook's variance that lies in the kept channels; one where nothing varies."""
        total = self.table.var(dim=0).sum()
        return float(self.kept_table.var(dim=0).sum() / total) if total > 0 else 1.0

    @property
    def dead_dropped(self) -> int:
        """How many of the dead channels are not kept."""
        return len(set(self.dead) - set(self.kept))


def channel_scores(codebook: Tensor, *, lambda_: float = 0.3) -> Tensor:
    """U = lambda V - (1 - lambda) S for each channel of `codebook` [K, D], in float64.

    V is the unbiased variance over codes; S the mean of e_i e_j over ordered pairs i != j, in closed form
    mean^2 - V / K. `lambda_` 0 ranks by similarity alone, as some of the released scripts do.

    Raises:
        TrainingError: `codebook` is no table of two or more codes, or not all of it is finite.
    """
    _require_table(codebook)
    codes = codebook.detach().double()
    variance = codes.var(dim=0, correction=1)
    similarity = codes.mean(dim=0).square() - variance / len(codes)
    return lambda_ * variance - (1 - lambda_) * similarity


def select_channels(
    codebook: Tensor, keep: int, *, lambda_: float = 0.3, ratio: tuple[int, int] = (1, 0)
) -> list[int]:
    """The channels to keep, in ascending order; all of them switch TOC off.

    Of `keep` channels, `ratio` says how many are those of the highest and of the lowest score. The published
    method takes the highest alone; (1, 1) and (3, 1) are settings of the released scripts, whose division
    rounds down, so that fewer than `keep` may be kept.

    Raises:
        TrainingError: `keep` is not between 1 and the width of the codebook, `ratio` keeps nothing, or `codebook`
            cannot be scored.
    """
    scores = channel_scores(codebook, lambda_=lambda_)
    dim = len(scores)
    if not 1 <= keep <= dim:
        raise TrainingError(f"TOC can keep 1 to {dim} channels of this codebook, not {keep}")
    if min(ratio) < 0 or not 0 < sum(ratio) <= keep:
        raise TrainingError(f"a TOC ratio of {ratio[0]}:{ratio[1]} cannot share out {keep} channels")
    highest, lowest = (keep // sum(ratio) * part for part in ratio)
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    return sorted(order[:highest] + order[dim - lowest :])


def select(
    codebook: Tensor, keep: int, *, lambda_: float = 0.3, ratio: tuple[int, int] = (1, 0)
) -> Selection:
    """`select_channels` with all that there is to say of it.

    Raises:
        TrainingError: as `select_channels`.
    """
    kept = select_channels(codebook, keep, lambda_=lambda_, ratio=ratio)
    table = codebook.detach().double()
    variance = table.var(dim=0)
    dead = torch.nonzero(variance <= _DEAD * variance.mean()).flatten().tolist()
    return Selection(table, channel_scores(codebook, lambda_=lambda_), tuple(kept), tuple(dead))


def cosine_similarities(codebook: Tensor) -> Tensor:
    """The cosine of each two codes of `codebook` [K, D], f64 [K, K]; zero where a code is all zeros."""
    units = F.normalize(codebook.detach().double(), dim=1)
    return units @ units.T


def mean_similarity(codebook: Tensor) -> float:
    """The mean cosine over all pairs of different codes of `codebook` [K, D], in time linear in K.

    The cosines of all ordered pairs add up to the squared length of the sum of the unit vectors.
    """
    units = F.normalize(codebook.detach().double(), dim=1)
    of_a_code_with_itself = units.square().sum()
    pairs = len(units) * (len(units) - 1)
    return float((units.sum(dim=0).square().sum() - of_a_code_with_itself) / pairs)


def _require_table(codebook: Tensor) -> None:
    if codebook.dim() != 2 or codebook.shape[0] < 2 or codebook.shape[1] < 1:
        shape = " x ".join(map(str, codebook.shape)) or "a single number"
        raise TrainingError(f"TOC needs a codebook of two or more codes with their channels, not {shape}")
    if not codebook.isfinite().all():
        raise TrainingError("TOC cannot score this codebook: not all of its numbers are finite")
