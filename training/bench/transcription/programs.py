"""DCID and FCID: what one training step computes, and in which order (docs/models.md 1.3, 1.5 and 3).

B batch, T segments, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.bench.transcription.layers import (
    ReluLinear,
    TemporalBlock,
    VectorDecoder,
    VideoDecoder,
    VideoPooling,
    VideoSpecific,
)
from training.bench.transcription.quantizer import Quantized, Quantizer, sum_of
from training.bench.transcription.terms import Club, Contrast, info_nce
from training.config import Recipe

Tensors = dict[str, Tensor]
LEARNING_RATE, CLUB_LEARNING_RATE, CLUB_STEPS, CLIP_NORM = 4e-4, 1e-3, 5, 0.5


@dataclass
class Draws:
    """The random choices of one step's losses: where CPC stands, and a permutation of the batch for each CLUB net."""

    second: int
    permutations: Tensors


@dataclass
class State:
    """What the encoders leave for the losses, by modality."""

    pairs: dict[str, tuple[Tensor, Tensor]]  # what CLUB sees: general and specific vectors
    latents: Tensors  # what CPC sees
    decoded: dict[str, tuple[Tensor, Tensor]]  # reconstructions and their targets
    quantized: Quantized
    general: Tensors  # what is quantised


class Program(nn.Module, ABC):
    """One method with its optimisers. Only `encoder`, `decoder`, `contrast` and `clubs` hold parameters."""

    encoder: nn.ModuleDict
    decoder: nn.ModuleDict
    contrast: Contrast
    clubs: nn.ModuleDict

    def prepare(self, device: str = "cpu") -> None:
        """To float64 and to `device`, and make the optimisers."""
        self.to(device=device, dtype=torch.float64)
        self.parts = [*self._main_parts(), *self.clubs.values()]
        parameters = [p for part in self._main_parts() for p in part.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        self.club_optimizers = {
            name: torch.optim.Adam(club.parameters(), lr=CLUB_LEARNING_RATE)
            for name, club in self.clubs.items()
        }

    @abstractmethod
    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """The forward pass, decoders included, in which the codebook moves."""

    def likelihoods(self, state: State) -> Tensors:
        """What the CLUB nets are trained on."""
        return {
            f"club_likelihood/{name}": self._club(name).likelihood_loss(x.detach(), y.detach())
            for name, (x, y) in state.pairs.items()
        }

    def losses(self, state: State, draws: Draws) -> Tensors:
        """Every term of the objective; each weighs one."""
        losses = {f"reconstruction/{n}": F.mse_loss(x, y) for n, (x, y) in state.decoded.items()}
        losses |= {f"commitment/{n}": loss for n, loss in state.quantized.commitment.items()}
        for name, (x, y) in state.pairs.items():
            losses[f"club/{name}"] = self._club(name).bound(x, y, draws.permutations[name])
        losses["cpc"] = self.contrast(state.latents, draws.second)
        losses["cmcm"] = state.quantized.matching
        return losses

    def step(self, batch: Mapping[str, Tensor], draws: Draws | None = None) -> dict[str, float]:
        """One step in the released order; returns every loss by name. `draws` are new ones by default."""
        self.train()
        state = self.encode({name: features.double() for name, features in batch.items()})
        logged: dict[str, float] = {}
        for _ in range(CLUB_STEPS):
            for optimizer in self.club_optimizers.values():
                optimizer.zero_grad()
            for name, loss in self.likelihoods(state).items():
                loss.backward()  # type: ignore[no-untyped-call]
                self.club_optimizers[name.removeprefix("club_likelihood/")].step()
                logged[name] = loss.item()
        losses = self.losses(state, draws or self._draw(state))
        total = sum_of([*losses.values()])
        for name, loss in losses.items():
            logged[name] = loss.item()
        total.backward()  # type: ignore[no-untyped-call]
        for part in self.parts:
            nn.utils.clip_grad_norm_(part.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**logged, "loss": total.item()}

    def _draw(self, state: State) -> Draws:
        return Draws(
            second=int(torch.randint(1, 9, (1,)).item()),
            permutations={name: torch.randperm(len(x)) for name, (x, _) in state.pairs.items()},
        )

    def _main_parts(self) -> list[nn.Module]:
        return [self.contrast, self.encoder, self.decoder]

    def _club(self, name: str) -> Club:
        club = self.clubs[name]
        assert isinstance(club, Club)
        return club


class DCID(Program):
    """Every second of every modality through one codebook; texts through an LSTM first."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        config = recipe.model
        dim = config.dim
        self.text_lstm = nn.LSTM(config.text_dim, dim // 2, 2, batch_first=True, bidirectional=True)
        self.encoder = nn.ModuleDict(
            {
                "pooling": VideoPooling(config),
                "temporal_video": TemporalBlock(config.video_dim, config),
                "temporal_audio": TemporalBlock(config.audio_dim, config),
                "temporal_text": TemporalBlock(dim, config),
                "specific_video": VideoSpecific(config),
                "specific_audio": ReluLinear(config.audio_dim, dim),
                "specific_text": ReluLinear(dim, dim),
                "quantizer": Quantizer(recipe.codebook.size, dim),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "video": VideoDecoder(config),
                "audio": VectorDecoder(dim, dim, config.audio_dim),
                "text": VectorDecoder(dim, dim, dim),
            }
        )
        self.contrast = Contrast(["audio", "video", "text"], dim)
        widths = {"video": config.club_video_dim, "audio": dim, "text": dim}
        self.clubs = nn.ModuleDict({n: Club(dim, width, config.club_hidden) for n, width in widths.items()})

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Of `audio` [B, T, .], `video` [B, T, G, G, .] and `text` [B, T, .]."""
        audio, video, words = batch["audio"], batch["video"], batch["text"]
        initial = words.new_zeros(4, len(words), self.text_lstm.hidden_size)
        text, _ = self.text_lstm(words, (initial, initial.clone()))
        encoder = self.encoder
        features, video_specific = encoder["specific_video"](video)
        specific = {
            "video": video_specific,
            "audio": encoder["specific_audio"](audio),
            "text": encoder["specific_text"](text),
        }
        general = {
            "audio": encoder["temporal_audio"](audio),
            "video": encoder["temporal_video"](encoder["pooling"](video)),
            "text": encoder["temporal_text"](text),
        }
        quantized = encoder["quantizer"](general)
        vectors = quantized.vectors
        return State(
            pairs={name: (vectors[name], y) for name, y in specific.items()},
            latents=general,
            decoded={
                "video": (self.decoder["video"](features, vectors["video"]), video),
                "audio": (self.decoder["audio"](specific["audio"], vectors["audio"]), audio),
                "text": (self.decoder["text"](specific["text"], vectors["text"]), text),
            },
            quantized=quantized,
            general=general,
        )

    def _main_parts(self) -> list[nn.Module]:
        return [*super()._main_parts(), self.text_lstm]


class FCID(Program):
    """Sound and picture apart second by second, then whole clips of all modalities through one codebook."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        config = recipe.model
        dim = config.dim
        self.encoder = nn.ModuleDict(
            {
                "pooling": VideoPooling(config),
                "temporal_video": TemporalBlock(config.video_dim, config),
                "temporal_audio": TemporalBlock(config.audio_dim, config),
                "temporal_text": TemporalBlock(config.text_dim, config),
                "specific_video": VideoSpecific(config),
                "specific_audio": ReluLinear(config.audio_dim, dim),
                "projector_media": nn.Linear(dim, dim),
                "projector_text": nn.Linear(dim, dim),
                "general_media": ReluLinear(dim, dim),
                "general_text": ReluLinear(dim, dim),
                "coarse_specific_media": ReluLinear(dim, dim),
                "coarse_specific_text": ReluLinear(dim, dim),
                "quantizer": Quantizer(recipe.codebook.size, dim),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "video": VideoDecoder(config),
                "audio": VectorDecoder(dim, dim, config.audio_dim),
                **{f"coarse_{name}": VectorDecoder(dim, dim, dim) for name in ("video", "audio", "text")},
            }
        )
        self.contrast = Contrast(["video", "audio"], dim)
        widths = {"video": config.club_video_dim, "audio": dim, "media": dim, "text": dim}
        self.clubs = nn.ModuleDict({n: Club(dim, width, config.club_hidden) for n, width in widths.items()})

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Of `audio` [B, T, .], `video` [B, T, G, G, .] and `text` [B, T, .]."""
        audio, video = batch["audio"], batch["video"]
        encoder, decoder = self.encoder, self.decoder
        fine = {
            "video": encoder["temporal_video"](encoder["pooling"](video)),
            "audio": encoder["temporal_audio"](audio),
        }
        features, video_specific = encoder["specific_video"](video)
        audio_specific = encoder["specific_audio"](audio)
        coarse, general, specific = self._coarse({**fine, "text": encoder["temporal_text"](batch["text"])})
        quantized = encoder["quantizer"]({name: z.unsqueeze(1) for name, z in general.items()})
        decoded = {
            "video": (decoder["video"](features, fine["video"]), video),
            "audio": (decoder["audio"](audio_specific, fine["audio"]), audio),
        }
        for name, target in coarse.items():
            vector = quantized.vectors[name].squeeze(1)
            decoded[f"coarse_{name}"] = (decoder[f"coarse_{name}"](specific[name], vector), target)
        both = [torch.cat([vectors["video"], vectors["audio"]]) for vectors in (general, specific)]
        return State(
            pairs={
                "video": (fine["video"], video_specific),
                "audio": (fine["audio"], audio_specific),
                "media": (both[0], both[1]),
                "text": (general["text"], specific["text"]),
            },
            latents=fine,
            decoded=decoded,
            quantized=quantized,
            general=general,
        )

    def losses(self, state: State, draws: Draws) -> Tensors:
        """The same terms, and InfoNCE from picture and sound to text."""
        losses = super().losses(state, draws)
        for name in ("video", "audio"):
            losses[f"infonce/{name}"] = info_nce(state.general[name], state.general["text"])
        return losses

    def _coarse(self, vectors: Tensors) -> tuple[Tensors, Tensors, Tensors]:
        """[B, T, D] by modality -> projected time means, general and specific vectors [B, D]."""
        branches = {"video": "media", "audio": "media", "text": "text"}
        coarse, general, specific = {}, {}, {}
        for name, branch in branches.items():
            coarse[name] = self.encoder[f"projector_{branch}"](vectors[name].mean(dim=1))
            general[name] = self.encoder[f"general_{branch}"](coarse[name])
            specific[name] = self.encoder[f"coarse_specific_{branch}"](coarse[name])
        return coarse, general, specific


PROGRAMS: dict[str, type[Program]] = {"dcid": DCID, "fcid": FCID}
