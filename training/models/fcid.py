"""FCID: fine disentangling of sound and picture, coarse alignment with text, one codebook (docs/fcid.md 1.2).

B batch, T segments (seconds, or word slots), D width of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.windows import Modality
from training.config import Recipe
from training.losses.club import ClubNet, club_bound, club_likelihood_loss
from training.losses.cmcm import code_matching_loss
from training.losses.commitment import commitment_loss
from training.losses.cpc import Predictor, cross_cpc_loss
from training.losses.infonce import info_nce_loss
from training.models.decoders import VectorDecoder, VideoDecoder
from training.models.encoders import ReluLinear, TemporalBlock, VideoPooling, VideoSpecific, masked_mean
from training.models.task import Batch, Losses, TaskModule
from training.quantizers.ema import EMACodebook, Quantized

# The codebook is updated in this order where the update is sequential.
MODALITIES: tuple[Modality, ...] = ("video", "audio", "text")


def _branch(modality: Modality) -> str:
    """Sound and picture share the coarse encoders."""
    return "text" if modality == "text" else "media"


@dataclass(frozen=True)
class FCIDState:
    """What one forward pass of training leaves for the losses."""

    inputs: dict[str, Tensor]  # audio [B, T, .], video [B, T, G, G, .]
    fine: dict[str, Tensor]  # audio, video [B, T, D]
    video_map: Tensor
    fine_specific: dict[str, Tensor]  # audio [B, T, D], video [B, T, club_video_dim]
    coarse: dict[str, Tensor]  # [B, D]: the projected time means
    general: dict[str, Tensor]  # [B, D]
    specific: dict[str, Tensor]  # [B, D]
    quantized: Quantized


class FCID(TaskModule):
    """The model and its losses. Segment and clip latents go through the same coarse path."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        config = recipe.model
        dim = config.dim
        self.recipe = recipe
        self.video_pooling = VideoPooling(config)
        self.temporal = nn.ModuleDict(
            {
                "audio": TemporalBlock(config.audio_dim, config),
                "video": TemporalBlock(config.video_dim, config),
                "text": TemporalBlock(config.text_dim, config),
            }
        )
        self.projector = nn.ModuleDict({branch: nn.Linear(dim, dim) for branch in ("media", "text")})
        self.general = nn.ModuleDict({branch: ReluLinear(dim, dim) for branch in ("media", "text")})
        self.specific = nn.ModuleDict({branch: ReluLinear(dim, dim) for branch in ("media", "text")})
        self.video_specific = VideoSpecific(config)
        self.audio_specific = ReluLinear(config.audio_dim, dim)
        self.codebook = EMACodebook(recipe.codebook, dim)
        self.decoders = nn.ModuleDict(
            {
                "video": VideoDecoder(config),
                "audio": VectorDecoder(dim, dim, config.audio_dim),
                **{f"coarse_{name}": VectorDecoder(dim, dim, dim) for name in MODALITIES},
            }
        )
        self.predictors = nn.ModuleDict({name: Predictor(dim) for name in ("audio", "video")})
        self.club = nn.ModuleDict(
            {
                "audio": ClubNet(dim, dim, config.club_hidden),
                "video": ClubNet(dim, config.club_video_dim, config.club_hidden),
                "media": ClubNet(dim, dim, config.club_hidden),
                "text": ClubNet(dim, dim, config.club_hidden),
            }
        )

    # Inference: pure functions of their input, exported as they stand.

    def segment_latents(self, modality: Modality, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, ...] -> latents [B, T, D]: every segment by itself through the coarse path.

        Video features are maps [B, T, G, G, C] or their spatial mean [B, T, C], which gives the same latents.
        `mask` bool [B, T] is True where a segment is real. Source: docs/fcid.md 1.3.
        """
        return self._coarse_general(modality, self._fine(modality, features, mask))

    def clip_latents(self, modality: Modality, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, ...] -> one latent a clip [B, D]: the time mean through the coarse path."""
        return self._coarse_general(modality, masked_mean(self._fine(modality, features, mask), mask))

    def _fine(self, modality: Modality, features: Tensor, mask: Tensor | None) -> Tensor:
        x = self.video_pooling(features) if modality == "video" else features
        z: Tensor = self.temporal[modality](x, mask)
        return z

    def _coarse_general(self, modality: Modality, fine: Tensor) -> Tensor:
        branch = _branch(modality)
        z: Tensor = self.general[branch](self.projector[branch](fine))
        return z

    # Training.

    def encode(self, batch: Batch) -> FCIDState:
        """The forward pass on `audio` [B, T, .], `video` [B, T, G, G, .], `text` [B, S, .] and `text_mask`.

        The mask, bool [B, S], is True where a word is; without it every slot counts, as published.
        """
        audio, video = self._crop(batch["audio"], batch["video"])
        mask = batch.get("text_mask")
        fine = {"audio": self._fine("audio", audio, None), "video": self._fine("video", video, None)}
        text = self._fine("text", batch["text"], mask)
        video_map, video_club = self.video_specific(video)
        means = {
            "video": masked_mean(fine["video"]),
            "audio": masked_mean(fine["audio"]),
            "text": masked_mean(text, self._thin(text, mask)),
        }
        coarse: dict[str, Tensor] = {m: self.projector[_branch(m)](means[m]) for m in MODALITIES}
        general: dict[str, Tensor] = {m: self.general[_branch(m)](coarse[m]) for m in MODALITIES}
        specific: dict[str, Tensor] = {m: self.specific[_branch(m)](coarse[m]) for m in MODALITIES}
        return FCIDState(
            inputs={"audio": audio, "video": video},
            fine=fine,
            video_map=video_map,
            fine_specific={"audio": self.audio_specific(audio), "video": video_club},
            coarse=coarse,
            general=general,
            specific=specific,
            quantized=self.codebook.quantize(general),
        )

    def inner_losses(self, state: FCIDState) -> Losses:
        """Negative log-likelihoods of the CLUB nets, on detached vectors."""
        return {
            f"club_likelihood/{name}": club_likelihood_loss(self._club(name), x.detach(), y.detach())
            for name, (x, y) in _club_pairs(state).items()
        }

    def losses(self, state: FCIDState) -> Losses:
        """All terms of docs/fcid.md 3.5, unweighted."""
        return {
            **self._reconstruction(state),
            **self._commitment(state),
            **self._club_bounds(state),
            "cmcm": code_matching_loss(
                {name: squared.unsqueeze(1) for name, squared in state.quantized.distances.items()},
                self.recipe.losses.variant,
            ),
            "cpc": self._cpc(state),
            **{
                f"infonce/{name}": info_nce_loss(
                    state.general[name], state.general["text"], self.recipe.losses.temperature
                )
                for name in ("video", "audio")
            },
        }

    def metrics(self, state: FCIDState) -> dict[str, float]:
        """Perplexity and use of the codebook in this batch, and how often modalities agree on a code."""
        codes = state.quantized.codes
        return {
            **{f"codebook/{name}": figure for name, figure in self.codebook.usage(codes).items()},
            "agreement/audio_video": float((codes["audio"] == codes["video"]).float().mean()),
            "agreement/audio_text": float((codes["audio"] == codes["text"]).float().mean()),
        }

    def main_modules(self) -> dict[str, nn.Module]:
        """Encoder, decoders and CPC, clipped apart as published."""
        encoder = nn.ModuleList(
            [
                self.video_pooling,
                self.temporal,
                self.projector,
                self.general,
                self.specific,
                self.video_specific,
                self.audio_specific,
            ]
        )
        return {"encoder": encoder, "decoders": self.decoders, "predictors": self.predictors}

    def inner_modules(self) -> Iterator[nn.Module]:
        """The CLUB nets."""
        yield from self.club.values()

    def _crop(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        crop, time = self.recipe.training.crop, audio.shape[1]
        if crop is None:
            return audio, video
        shortest, longest = min(crop[0], time), min(crop[1], time)
        length = int(torch.randint(shortest, longest + 1, ()))
        start = int(torch.randint(0, time - length + 1, ()))
        return audio[:, start : start + length], video[:, start : start + length]

    def _thin(self, text: Tensor, mask: Tensor | None) -> Tensor | None:
        """Where seconds are cropped, words are too, in half of the texts: every slot learns to speak for its text.

        Returns the slots to average over, at least one of each text.
        """
        if self.recipe.training.crop is None:
            return mask
        draws = torch.rand(text.shape[:2])
        if mask is not None:
            draws = draws.masked_fill(~mask, -1.0)
        whole = torch.rand(len(text), 1) < 0.5
        threshold = torch.rand(len(text), 1).masked_fill(whole, 0.0)
        return draws >= torch.minimum(threshold, draws.amax(dim=1, keepdim=True))

    def _reconstruction(self, state: FCIDState) -> Losses:
        video = self.decoders["video"](state.video_map, state.fine["video"])
        audio = self.decoders["audio"](state.fine_specific["audio"], state.fine["audio"])
        losses = {
            "reconstruction/video": F.mse_loss(video, state.inputs["video"]),
            "reconstruction/audio": F.mse_loss(audio, state.inputs["audio"]),
        }
        for name in MODALITIES:
            coarse = self.decoders[f"coarse_{name}"](state.specific[name], state.quantized.vectors[name])
            losses[f"reconstruction/coarse_{name}"] = F.mse_loss(coarse, state.coarse[name])
        return losses

    def _commitment(self, state: FCIDState) -> Losses:
        losses = commitment_loss(state.general, state.quantized.rows, self.codebook.config.commitment)
        return {f"commitment/{name}": loss for name, loss in losses.items()}

    def _club_bounds(self, state: FCIDState) -> Losses:
        with _frozen(self.club):
            return {
                f"club/{name}": club_bound(
                    self._club(name), x, y, torch.randperm(len(x)), self.recipe.losses.variant
                )
                for name, (x, y) in _club_pairs(state).items()
            }

    def _cpc(self, state: FCIDState) -> Tensor:
        time = state.fine["audio"].shape[1]
        if time < 2:
            return torch.zeros(())
        now = int(torch.randint(min(1, time - 2), time - 1, ()))
        guesses = {name: self.predictors[name](fine[:, : now + 1]) for name, fine in state.fine.items()}
        return cross_cpc_loss({name: fine[:, now + 1] for name, fine in state.fine.items()}, guesses)

    def _club(self, name: str) -> ClubNet:
        net = self.club[name]
        assert isinstance(net, ClubNet)
        return net


def _club_pairs(state: FCIDState) -> dict[str, tuple[Tensor, Tensor]]:
    """General and specific vectors, fine and coarse; sound and picture share the coarse net."""
    general, specific = state.general, state.specific
    return {
        "audio": (state.fine["audio"], state.fine_specific["audio"]),
        "video": (state.fine["video"], state.fine_specific["video"]),
        "media": (
            torch.cat([general["video"], general["audio"]]),
            torch.cat([specific["video"], specific["audio"]]),
        ),
        "text": (general["text"], specific["text"]),
    }


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through `module` without reaching its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
