"""A procedural world of named events: clips with a sound, a moving picture, a caption, on and off times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tessera.errors import TrainingError
from training.data.captions import caption
from training.data.events import EVENTS, Floats, Occurrence, Sense
from training.data.layout import lay_out
from training.data.pictures import moving_picture
from training.data.pictures.camera import Filming
from training.data.seeds import SEED_LIMIT, Seed, Stream
from training.data.sounds import sound_track
from training.data.sounds.recording import Recording

__all__ = ["EVENTS", "NUISANCES", "Clip", "Occurrence", "Split", "World"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
NUISANCES = 7
"""Latents of circumstance per modality: level or exposure, background, texture or room, noise and so on."""


@dataclass(frozen=True)
class Clip:
    """One clip: a specification that is rendered on demand, always to the same samples and pixels.

    `label` is the index of `event` in EVENTS. `audio_nuisance` and `video_nuisance` are the standard normal
    latents, NUISANCES each, of how the clip was recorded and filmed.
    """

    id: str
    event: str
    label: int
    occurrences: tuple[Occurrence, ...]
    caption: str
    seconds: int
    sample_rate: int
    audio_nuisance: tuple[float, ...]
    video_nuisance: tuple[float, ...]
    nuisance_strength: float
    seed: Seed

    def waveform(self) -> Floats:
        """The sound, [seconds * sample_rate] float32 within [-1, 1]."""
        recording = Recording.from_latents(self.audio_nuisance, self.nuisance_strength)
        return sound_track(self.seed, self.occurrences, recording, self.seconds, self.sample_rate)

    def frames(self, per_second: int, height: int, width: int) -> NDArray[np.uint8]:
        """The picture, [seconds, per_second, height, width, 3].

        Frame j of second i is at i + (j + 0.5) / per_second. Raises as `seconds_of_frames` does.
        """
        return np.stack(list(self.seconds_of_frames(per_second, height, width)))

    def seconds_of_frames(self, per_second: int, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """The same frames one second at a time, [per_second, height, width, 3], so long clips fit in memory.

        Raises:
            TrainingError: no frames per second, or a frame smaller than 16 x 16.
        """
        if per_second < 1 or min(height, width) < 16:
            raise TrainingError(f"cannot draw {per_second} frames a second of {height} x {width} pixels")
        filming = Filming.from_latents(self.video_nuisance, self.nuisance_strength)
        return moving_picture(self.seed, self.occurrences, filming, self.seconds, per_second, height, width)

    def activity(self, modality: Sense) -> NDArray[np.bool_]:
        """Which events are on for at least half of each second, [seconds, len(EVENTS)]."""
        starts = np.arange(self.seconds)
        share = np.zeros((self.seconds, len(EVENTS)))
        for occurrence in self.occurrences:
            interval = occurrence.interval(modality)
            if interval:
                overlap = np.minimum(starts + 1, interval[1]) - np.maximum(starts, interval[0])
                share[:, EVENTS.index(occurrence.event)] += np.clip(overlap, 0.0, 1.0)
        return share >= 0.5


@dataclass(frozen=True)
class World:
    """All clips of one seed.

    `nuisance_correlation` is that of each nuisance latent between the modalities.

    Raises:
        TrainingError: a setting outside its range.
    """

    seed: int = 0
    seconds: int = 10
    nuisance_correlation: float = 0.3
    nuisance_strength: float = 1.0
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "seed": (0, SEED_LIMIT - 1),
            "seconds": (1, 60),
            "nuisance_correlation": (-1.0, 1.0),
            "nuisance_strength": (0.0, 3.0),
            "sample_rate": (8000, 48000),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise TrainingError(f"{name} of a world is {value}, it must be from {low} to {high}")

    def clip(self, split: Split, index: int) -> Clip:
        """Clip `index` of a split. Each block of len(EVENTS) clips has every event once, in its own order.

        Raises:
            TrainingError: no such split, or a negative index.
        """
        if split not in SPLITS or not 0 <= index < SEED_LIMIT:
            raise TrainingError(f"there is no clip {index} of {split!r}: splits are {', '.join(SPLITS)}")
        seed = Seed(self.seed, SPLITS.index(split), index)
        label = self._label(seed)
        audio, video = self._nuisance(seed)
        return Clip(
            id=f"{split}-{index:06d}",
            event=EVENTS[label],
            label=label,
            occurrences=lay_out(EVENTS[label], self.seconds, seed.stream(Stream.LAYOUT)),
            caption=caption(EVENTS[label], seed.stream(Stream.CAPTION)),
            seconds=self.seconds,
            sample_rate=self.sample_rate,
            audio_nuisance=audio,
            video_nuisance=video,
            nuisance_strength=self.nuisance_strength,
            seed=seed,
        )

    def _label(self, seed: Seed) -> int:
        block, place = divmod(seed.index, len(EVENTS))
        order = Seed(seed.world, seed.split, block).stream(Stream.ORDER).permutation(len(EVENTS))
        return int(order[place])

    def _nuisance(self, seed: Seed) -> tuple[tuple[float, ...], tuple[float, ...]]:
        rho = self.nuisance_correlation
        audio, own = seed.stream(Stream.NUISANCE).standard_normal((2, NUISANCES))
        video = rho * audio + np.sqrt(1.0 - rho**2) * own
        return tuple(audio.tolist()), tuple(video.tolist())
