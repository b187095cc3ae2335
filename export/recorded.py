"""Windows of real clips for the parity check: rendered media and captions of the world that a recipe names."""

from __future__ import annotations

import numpy as np

from tessera.bundle import TimeGrid
from tessera.limits import Limits
from tessera.text import WordSlots
from tessera.windows import Modality, Window
from training.backbones.classic import ClassicVideo
from training.config import Recipe
from training.data.generated import GeneratedData, filmed


def recorded_windows(recipe: Recipe, tokenizer_json: bytes, clips: int = 40) -> dict[Modality, list[Window]]:
    """Windows of `clips` clips that no split holds: they lie behind the test clips."""
    data = GeneratedData.of(recipe.data)
    words = WordSlots(tokenizer_json, TimeGrid())
    windows: dict[Modality, list[Window]] = {"audio": [], "video": [], "text": []}
    spec = ClassicVideo.spec
    for index in range(clips):
        clip = data.world.clip("test", data.clips["test"] + index)
        frames = filmed(clip, (spec.height, spec.width))
        windows["audio"].append(
            Window("audio", {"waveform": clip.waveform().astype(np.float32)}, len(frames))
        )
        windows["video"].append(Window("video", {"frames": frames}, len(frames)))
        windows["text"] += words.cut(clip.caption, Limits(), "none")[0]
    return windows
