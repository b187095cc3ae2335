"""Cross-modal contrastive predictive coding: the past of one modality foretells the next of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from training.distributed import gather
from training.losses.contrast import own_cross_entropy, products

Contrast = Literal["guesses", "targets"]
SAME_MODALITY_WEIGHT = 0.1


class Predictor(nn.Module):
    """A two-layer LSTM over the past, and for each of the next `steps` segments a linear guess."""

    def __init__(self, dim: int, steps: int = 1) -> None:
        super().__init__()
        self.context = nn.LSTM(dim, dim, num_layers=2, batch_first=True)
        self.predict = nn.ModuleList([nn.Linear(dim, dim) for _ in range(steps)])

    def forward(self, past: Tensor) -> Tensor:
        """[batch, time, dim] -> guesses at the segments after the last, [batch, steps, dim]."""
        context = self.context(past)[0][:, -1]
        return torch.stack([predict(context) for predict in self.predict], dim=1)


def cross_cpc_loss(
    targets: Mapping[str, Tensor], guesses: Mapping[str, Tensor], contrast: Contrast = "guesses"
) -> Tensor:
    """Sum over all ordered pairs of modalities of a cross entropy, a tenth of it within one (docs/models.md 3.3).

    `targets` and `guesses` are [B, steps, dim] by modality. `targets`: a guess picks its clip's target among the
    targets of all clips (Xia et al. 2023, equation 6). `guesses`: a target picks its clip's guess among the guesses of
    all clips, as released. Mean over steps.
    """
    rows, columns = (targets, guesses) if contrast == "guesses" else (guesses, targets)
    columns_SND = {name: gather(x).transpose(0, 1) for name, x in columns.items()}
    loss = next(iter(rows.values())).new_zeros(())
    for row_name, row in rows.items():
        for column_name, column_SND in columns_SND.items():
            weight = SAME_MODALITY_WEIGHT if row_name == column_name else 1.0
            loss = loss + weight * own_cross_entropy(products(row.transpose(0, 1), column_SND))
    return loss
