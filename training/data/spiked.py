"""Spiked events: features of an event that all modalities share, spiked with a nuisance that they share in part.

Each event has a prototype in a latent space of eight dimensions, and each clip an instance of it. In every second
the event is on or off, and now and then one modality misses it. Beside it stands a nuisance of eight dimensions,
half of its variance fixed for the clip as a room is, with a set correlation between the modalities. A frozen random
network of each modality mixes the two into features. Everything is known: the event, its latent, the nuisance.

N clips, T seconds, E dimensions of a latent, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from tessera.windows import MODALITIES, Modality
from training.data.features import FeatureSet
from training.data.settings import parsed
from training.data.world import SPLITS, Split

LATENT = 8
"""Dimensions of an event, and as many of a nuisance."""
WIDTHS: dict[Modality, int] = {"audio": 64, "video": 128, "text": 48}

_HIDDEN = 128
_SHORTEST = 4  # seconds that an event lasts at least
_MISSED = 0.1  # share of its seconds that a modality misses
_INSTANCE = 0.4  # deviation of a clip's event from its prototype ...
_JITTER = 0.35  # ... and of a second from its clip
_NOISE = 0.1

Floats = NDArray[np.float64]


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class SpikedWorld:
    """Which spiked events: a function of these settings alone.

    `nuisance_strength` is the deviation of a nuisance, where that of the prototypes is one; `nuisance_correlation`
    that between the nuisances of two modalities.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    events: Annotated[int, Field(ge=2)] = 20
    seconds: Annotated[int, Field(ge=_SHORTEST)] = 10
    nuisance_strength: Annotated[float, Field(ge=0)] = 1.0
    nuisance_correlation: Annotated[float, Field(ge=0, le=1)] = 0.0

    def clips(self, split: Split, count: int) -> SpikedClips:
        """`count` clips of a split. Splits share prototypes and mixers, and nothing else."""
        draws = np.random.default_rng([self.seed, 0, SPLITS.index(split)])
        prototypes = np.random.default_rng([self.seed, 1]).standard_normal((self.events, LATENT))
        labels = draws.integers(0, self.events, count)
        instances = prototypes[labels] + _INSTANCE * draws.standard_normal((count, LATENT))
        jitter = _JITTER * draws.standard_normal((count, self.seconds, LATENT))
        on = self._on(draws, count)
        latent = (instances[:, None] + jitter) * on[..., None]
        common = self._nuisance(draws, count)
        nuisance: dict[Modality, Floats] = {}
        features: dict[Modality, NDArray[np.float32]] = {}
        for modality in MODALITIES:
            own = self._nuisance(draws, count)
            shared = self.nuisance_correlation
            nuisance[modality] = self.nuisance_strength * (shared**0.5 * common + (1 - shared) ** 0.5 * own)
            seen = draws.random(on.shape) >= _MISSED
            mixed = self._mixed(modality, np.concatenate([latent * seen[..., None], nuisance[modality]], -1))
            features[modality] = (mixed + _NOISE * draws.standard_normal(mixed.shape)).astype(np.float32)
        return SpikedClips(labels, on, latent, nuisance, features)

    def _on(self, draws: np.random.Generator, count: int) -> NDArray[np.bool_]:
        """In which seconds the events are on, [N, T]: one stretch a clip."""
        length = draws.integers(_SHORTEST, self.seconds + 1, (count, 1))
        start = np.floor(draws.random((count, 1)) * (self.seconds - length + 1))
        second = np.arange(self.seconds)
        return (second >= start) & (second < start + length)

    def _nuisance(self, draws: np.random.Generator, count: int) -> Floats:
        """Standard normal [N, T, E], half of the variance fixed for the clip."""
        fixed = draws.standard_normal((count, 1, LATENT))
        return (fixed + draws.standard_normal((count, self.seconds, LATENT))) / 2**0.5

    def _mixed(self, modality: Modality, latents: Floats) -> Floats:
        """[..., 2 E] -> [..., C], of about unit variance."""
        draws = np.random.default_rng([self.seed, 2, MODALITIES.index(modality)])
        first = draws.standard_normal((2 * LATENT, _HIDDEN)) / (2 * LATENT) ** 0.5
        second = draws.standard_normal((_HIDDEN, WIDTHS[modality])) / _HIDDEN**0.5
        mixed: Floats = np.tanh(latents @ first) @ second
        return mixed


@dataclass(frozen=True)
class SpikedClips:
    """Clips with all that is known of them."""

    labels: NDArray[np.int64]  # [N]
    on: NDArray[np.bool_]  # [N, T]
    latent: Floats  # [N, T, E]: the event's, zero where it is off
    nuisance: dict[Modality, Floats]  # [N, T, E]
    features: dict[Modality, NDArray[np.float32]]  # [N, T, C]

    def feature_set(self) -> FeatureSet:
        """As models are trained on them: pictures of a single cell, texts of a word a second."""
        count, seconds = self.on.shape
        return FeatureSet(
            audio=self.features["audio"],
            video=self.features["video"][:, :, None, None],
            text=self.features["text"],
            words=np.full(count, seconds),
            labels=self.labels,
        )


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class SpikedData:
    """How many clips of which spiked events: the `data` part of a recipe."""

    spiked: SpikedWorld
    clips: dict[Split, int]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From the `data` part of a recipe: `spiked`, the fields of `SpikedWorld`, and `clips`, the size of each split.

        Raises:
            TrainingError: one is missing, unknown or of the wrong type.
        """
        return parsed(cls, settings)

    def of_split(self, split: Split) -> SpikedClips:
        """All that is known of a split."""
        return self.spiked.clips(split, self.clips[split])

    def features(self, split: Split) -> FeatureSet:
        """What a model sees of a split."""
        return self.of_split(split).feature_set()
