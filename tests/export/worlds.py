"""Checkpoints of every method with random weights, as wide as the classic backbones say, and not trained at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests import tiny
from training.checkpoint import TrainingState, save_checkpoint
from training.config import Recipe
from training.data.generated import GeneratedData
from training.models.catalogue import build_model

DIM, CODES = tiny.RECIPE.model.dim, 24

_MODEL = {**tiny.RECIPE.model.model_dump(), "width": DIM}
_DATA = {"world": {"seed": 7, "seconds": 4}, "clips": {"train": 16, "validation": 8, "test": 8}}


def recipe_of(method: str, **changes: Any) -> Recipe:
    """A recipe of `method`; `codebook` and `data` are laid over ours, all else replaces it."""
    two_levels: dict[str, Any] = {"hdcid": {"steps": 0}, "srcid": {"steps": 0, "mi_below": 0.5}}
    codebook = {
        "size": CODES,
        "start": "uniform",
        "depth": 2,
        "fsq_levels": [4, 3, 2],
        "partners": "none" if method in ("vq", "cmcm", "canonical") else "aligned",
    }
    document = {
        "name": method,
        "method": method,
        "model": {**_MODEL, "encoder": "canonical" if method == "canonical" else "published"},
        "warm_start": two_levels.get(method),
        **changes,
        "codebook": codebook | changes.get("codebook", {}),
        "data": _DATA | changes.get("data", {}),
    }
    return Recipe.parse(document)


def random_model(recipe: Recipe) -> Any:
    """The model of `recipe`, its codes spread like its latents, and its linear additions not zero."""
    torch.manual_seed(0)
    model = build_model(recipe).eval()
    for name, values in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith((".sums", ".paper_table")):
            values.normal_()
        if ".exit." in name:
            torch.nn.init.normal_(values, std=0.1)
    return model


def random_checkpoint(recipe: Recipe, folder: Path) -> Path:
    """A checkpoint of `random_model`, with the tokeniser of its world beside it."""
    extra = {"tokenizer.json": GeneratedData.of(_DATA).tokenizer_json()}
    return save_checkpoint(folder, 1, random_model(recipe), recipe, TrainingState({}), extra)
