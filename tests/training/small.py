"""A small FCID and random clips for tests of the training core."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from training.config import Recipe

QUIET = Console(quiet=True)
SEGMENTS, SLOTS = 10, 7

_DOCUMENT: dict[str, Any] = {
    "name": "small",
    "model": {
        "dim": 16,
        "heads": 2,
        "feed_forward": 32,
        "audio_dim": 6,
        "video_dim": 8,
        "video_grid": 5,
        "text_dim": 5,
        "squeeze_dim": 2,
        "video_hidden": [4, 6],
        "club_video_dim": 10,
        "club_hidden": 8,
    },
    "codebook": {"size": 12, "reset_after": 3},
    "training": {"steps": 6, "batch_size": 8, "save_every": 3, "log_every": 1, "learning_rate": 1e-3},
}


def small_recipe(**parts: dict[str, Any]) -> Recipe:
    """The small recipe with some settings of some parts changed."""
    changed = {name: {**_DOCUMENT.get(name, {}), **settings} for name, settings in parts.items()}
    return Recipe.parse({**_DOCUMENT, **changed})


class RandomClips:
    """Clips of random features; texts have one word or more, words first."""

    def __init__(self, recipe: Recipe, clips: int = 40, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        model, grid = recipe.model, recipe.model.video_grid
        words = torch.randint(1, SLOTS + 1, (clips, 1), generator=generator)
        mask = torch.arange(SLOTS) < words
        text = torch.randn(clips, SLOTS, model.text_dim, generator=generator) * mask.unsqueeze(-1)
        self.tensors: dict[str, Tensor] = {
            "audio": torch.randn(clips, SEGMENTS, model.audio_dim, generator=generator),
            "video": torch.rand(clips, SEGMENTS, grid, grid, model.video_dim, generator=generator),
            "text": text,
            "text_mask": mask,
        }

    def __len__(self) -> int:
        return len(self.tensors["audio"])

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The clips at `indices`."""
        return {name: tensor[indices] for name, tensor in self.tensors.items()}
