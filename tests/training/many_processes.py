"""Trains the small recipes that are asked for; under torchrun, in as many processes as it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.training.small import QUIET, RandomClips, small_recipe
from training.config import Recipe
from training.devices import open_fabric
from training.models.catalogue import build_model
from training.randomness import seed_everything
from training.trainer import train


def exact_recipe(method: str) -> Recipe:
    """Nothing in it differs between processes but rounding, which float64 makes small."""
    return small_recipe(
        method,
        model={"dropout": 0.0, **_model(method)},
        training={
            "precision": "float64",
            "crop": None if method.endswith("paper") else [1, 10],
            "save_every": 6,
        },
    )


def _model(method: str) -> dict[str, str]:
    return {"video_branch": small_recipe(method).model.video_branch}


def train_exactly(method: str, folder: Path) -> Path:
    """Train `method` in `folder` and return its last checkpoint."""
    recipe = exact_recipe(method)
    fabric = open_fabric(recipe.training, "cpu")
    seed_everything(0)
    run = folder / method
    return train(build_model(recipe), RandomClips(recipe), recipe, run, fabric=fabric, console=QUIET)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[2:]:
        train_exactly(name, Path(sys.argv[1]))
