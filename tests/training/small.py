"""Small models of every method, and random clips, for tests of the training core."""

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
        "layers": 1,
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


METHODS: dict[str, dict[str, Any]] = {
    "dcid": {"method": "dcid"},
    "dcid-av": {"method": "dcid", "modalities": ["audio", "video"]},
    "dcid-at": {"method": "dcid", "modalities": ["text", "audio"]},
    "dcid-vt": {"method": "dcid", "modalities": ["video", "text"]},
    "hdcid": {"method": "hdcid", "warm_start": {"steps": 2}, "losses": {"weights": {"level2": 0.3}}},
    "srcid": {"method": "srcid", "warm_start": {"steps": 2, "mi_below": 0.5}},
    "fcid": {"method": "fcid"},
    "fcid-fine": {"method": "fcid", "half": "fine", "modalities": ["audio", "video"]},
    "fcid-coarse": {"method": "fcid", "half": "coarse", "modalities": ["audio", "text"]},
    "fcid-coarse-av": {"method": "fcid", "half": "coarse", "modalities": ["audio", "video"]},
    "vq": {"method": "vq", "codebook": {"partners": "none"}},
    "cmcm": {"method": "cmcm", "codebook": {"partners": "none"}},
    "canonical": {
        "method": "canonical",
        "model": {"encoder": "canonical", "width": 12},
        "codebook": {"partners": "none"},
    },
    "canonical-residual": {
        "method": "canonical",
        "model": {"encoder": "canonical", "width": 12},
        "losses": {"critic": "cosine"},
        "codebook": {"quantizer": "residual", "depth": 2, "partners": "none"},
    },
    "dcid-canonical": {"method": "dcid", "model": {"encoder": "canonical", "width": 12}},
    "dcid-mean": {"method": "dcid", "model": {"video_branch": "mean"}},
    "hdcid-mean": {"method": "hdcid", "warm_start": {"steps": 0}, "model": {"video_branch": "mean"}},
    "dcid-residual": {"method": "dcid", "codebook": {"quantizer": "residual", "depth": 2}},
    "dcid-fsq": {"method": "dcid", "codebook": {"quantizer": "fsq", "fsq_levels": [4, 3]}},
    "dcid-paper": {
        "method": "dcid",
        "codebook": {"update": "paper", "start": "uniform", "reset": "paper"},
        "losses": {"variant": "paper"},
    },
    "fcid-paper": {
        "method": "fcid",
        "codebook": {"update": "paper", "start": "uniform", "reset": "paper"},
        "losses": {"variant": "paper"},
    },
}
"""What makes a small recipe of each method, by a name for the test."""


def small_recipe(method: str = "fcid", **parts: dict[str, Any]) -> Recipe:
    """The small recipe of one of `METHODS`, with some settings of some parts changed."""
    document = _DOCUMENT
    for changes in (METHODS[method], parts):
        changed = {
            name: {**document.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in changes.items()
        }
        document = {**document, **changed}
    return Recipe.parse(document)


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
