"""Commitment: latents stay near the rows that were chosen for them, and near their partners' rows."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from training.losses.variant import Variant


def commitment_loss(
    latents: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    beta: float,
    variant: Variant = "intended",
    *,
    partners: bool = True,
) -> dict[str, Tensor]:
    """For each modality, `beta` to its own rows and `beta / 2` shared by its partners' (docs/models.md 2.5).

    `latents` and `rows` are [..., D] by modality, rows without gradient. Source: Xia et al. 2023, equation 8. `paper`
    has the released weights, twice as large. Without `partners` there is only the first term.
    """
    own = 2 * beta if variant == "paper" else beta
    losses = {}
    for name, z in latents.items():
        loss = own * F.mse_loss(z, rows[name])
        others = [F.mse_loss(z, row) for other, row in rows.items() if partners and other != name]
        losses[name] = loss + sum(others) * (own / 2 / len(others)) if others else loss
    return losses
