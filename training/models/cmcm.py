"""CMCM as a baseline: the plain VQ model, with modalities of a clip brought together in vectors and in codes.

A. H. Liu et al., *Cross-Modal Discrete Representation Learning*, ACL 2022; docs/models.md 1.5.
"""

from __future__ import annotations

import itertools

import torch

from training.losses.cmcm import code_matching_loss
from training.losses.infonce import info_nce_loss
from training.models.task import Losses
from training.models.vq import VQ, VQState


class CMCM(VQ):
    """VQ with a contrastive loss between clips and the code matching loss."""

    def losses(self, state: VQState, generator: torch.Generator) -> Losses:
        """Those of VQ, InfoNCE of each pair of modalities both ways, and CMCM."""
        clips = {m: z.mean(dim=1) for m, z in state.latents.items()}
        temperature = self.recipe.losses.temperature
        losses = super().losses(state, generator)
        for left, right in itertools.combinations(self.modalities, 2):
            forth = info_nce_loss(clips[left], clips[right], temperature)
            back = info_nce_loss(clips[right], clips[left], temperature)
            losses[f"infonce/{left}_{right}"] = (forth + back) / 2
        if state.quantized.distances is not None:
            losses["cmcm"] = code_matching_loss(state.quantized.distances, self.recipe.losses.variant)
        return losses
