"""What goes through the graphs to be checked: rendered media and captions of a generated world, and noise."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.backbones import ExportedBackbone
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.manifest import AudioSpec, TextSpec, TimeGrid, VideoSpec
from tessera.noise import media_noise
from tessera.samples import NOISE_SEED
from tessera.text import TOKENIZER, WordSlots, piece_count
from training.config import Recipe
from training.data.generated import GeneratedData
from training.data.world import Clip, World

Inputs = dict[str, Tensor]

# A big network for pictures takes seconds for each of a window's frames, and has to see enough of them all the same.
_PIXELS = 8_000_000
_FEWEST_SEGMENTS = 8
# Pictures first: each of the other levels of optimisation sees but one of a big network's.
_PICTURES = ((1, 1), (2, 1), (1, 2))
# Sounds and words cost little.
_OTHERS = ((1, 10), *_PICTURES, (24, 10))
_PIXELS_PER_LEVEL = 300_000


def recorded_inputs(backbone: ExportedBackbone, recipe: Recipe, clips: int) -> list[Inputs]:
    """Windows of `clips` clips that no split of the model's world holds, or of a world of ours; each a batch of one."""
    windows = _WINDOWS[type(backbone.spec)](backbone, _clips(recipe, clips))
    return [{name: torch.from_numpy(array)[None] for name, array in window.items()} for window in windows]


def noise_inputs(backbone: ExportedBackbone) -> list[Inputs]:
    """Batches of several shapes that look and sound like nothing, the first of them that of `NOISE_SEED`."""
    spec = backbone.spec
    pieces = piece_count(backbone.files[TOKENIZER]) if isinstance(spec, TextSpec) else 0
    shapes = _PICTURES if isinstance(spec, VideoSpec) else _OTHERS
    noise = (media_noise(spec, pieces, *shape, NOISE_SEED + number) for number, shape in enumerate(shapes))
    return [{name: torch.from_numpy(array) for name, array in inputs.items()} for inputs in noise]


def noise_per_level(backbone: ExportedBackbone) -> int:
    """How many of them go through the backbone at every level of optimisation: all, or one of large pictures."""
    spec = backbone.spec
    if not isinstance(spec, VideoSpec):
        return len(_OTHERS)
    pixels = spec.frames_per_segment * spec.height * spec.width
    segments = sum(batch * time for batch, time in _PICTURES)
    return len(_PICTURES) if segments * pixels <= _PIXELS_PER_LEVEL else 1


def _clips(recipe: Recipe, clips: int) -> Iterator[Clip]:
    data = GeneratedData.of(recipe.data) if "world" in recipe.data else None
    world, behind = (World(seed=0), 0) if data is None else (data.world, data.clips["test"])
    return (world.clip("test", behind + index) for index in range(clips))


def _sounds(backbone: ExportedBackbone, clips: Iterator[Clip]) -> Iterator[dict[str, NDArray[np.generic]]]:
    for clip in clips:
        yield {"waveform": clip.waveform().astype(np.float32)}


def _pictures(backbone: ExportedBackbone, clips: Iterator[Clip]) -> Iterator[dict[str, NDArray[np.generic]]]:
    spec = backbone.spec
    assert isinstance(spec, VideoSpec)
    pixels = spec.frames_per_segment * spec.height * spec.width
    rest = max(_FEWEST_SEGMENTS, _PIXELS // pixels)
    for clip in clips:
        seconds = clip.seconds_of_frames(spec.frames_per_segment, spec.height, spec.width)
        frames = np.stack(list(itertools.islice(seconds, rest)))
        yield {"frames": frames}
        rest -= len(frames)
        if rest <= 0:
            return


def _texts(backbone: ExportedBackbone, clips: Iterator[Clip]) -> Iterator[dict[str, NDArray[np.generic]]]:
    spec = backbone.spec
    assert isinstance(spec, TextSpec)
    listed = None if spec.words is None else frozenset(json.loads(backbone.files[spec.words]))
    words = WordSlots(backbone.files[TOKENIZER], TimeGrid(), listed)
    for clip in clips:
        try:
            windows, _ = words.cut(clip.caption, Limits(), "none")
        except InputError:
            continue  # none of its words is listed
        yield from (window.inputs for window in windows)


_WINDOWS = {AudioSpec: _sounds, VideoSpec: _pictures, TextSpec: _texts}
