"""Commitment: latents stay near the rows that were chosen for them, and near their partners' rows."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F


def commitment_loss(
    latents: Mapping[str, Tensor], rows: Mapping[str, Tensor], beta: float
) -> dict[str, Tensor]:
    """For each modality, 2 beta to its own rows and beta shared by its partners' (docs/fcid.md 2.5).

    `latents` and `rows` are [..., D] by modality, rows without gradient. With three modalities and beta 0.25
    the weights are 0.5, 0.125 and 0.125; with two 0.5 and 0.25.
    """
    losses = {}
    for name, z in latents.items():
        partners = [F.mse_loss(z, row) for other, row in rows.items() if other != name]
        shared = sum(partners) * (beta / len(partners)) if partners else 0.0
        losses[name] = 2 * beta * F.mse_loss(z, rows[name]) + shared
    return losses
