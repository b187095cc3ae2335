"""A tiny FCID on the generated world: trained for seconds, exported for real."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from export.bundle import export_bundle
from export.settings import ExportSettings
from export.source import open_source
from training.config import Recipe
from training.data.features import FeatureSet
from training.data.generated import GeneratedData
from training.models.fcid import FCID
from training.randomness import seed_everything
from training.trainer import train

QUIET = Console(quiet=True)
QUICK = ExportSettings(segments=1_500, clips=4, usage_clips=4)

RECIPE = Recipe.parse(
    {
        "name": "tiny",
        "model": {
            "layers": 1,
            "dim": 32,
            "feed_forward": 64,
            "audio_dim": 128,
            "video_dim": 48,
            "text_dim": 128,
            "squeeze_dim": 4,
            "video_hidden": [8, 16],
            "club_video_dim": 16,
            "club_hidden": 16,
        },
        "codebook": {"size": 16, "reset_after": 5},
        "training": {"steps": 60, "batch_size": 8, "save_every": 60, "crop": [1, 10], "learning_rate": 1e-3},
        "data": {"world": {"seed": 7}, "clips": {"train": 16, "validation": 8, "test": 8}},
    }
)


def tiny_features(cache: Path) -> tuple[FeatureSet, str]:
    """Features of the training split and the tokeniser they were made with."""
    data = GeneratedData.of(RECIPE.data)
    tokenizer_json = data.tokenizer_json()
    return data.features("train", tokenizer_json, cache), tokenizer_json


def train_tiny(folder: Path) -> Path:
    """Train in `folder` and return the last checkpoint."""
    features, tokenizer_json = tiny_features(folder / "cache")
    seed_everything(RECIPE.training.seed)
    extra = {"tokenizer.json": tokenizer_json}
    return train(FCID(RECIPE), features, RECIPE, folder / "run", extra_files=extra, console=QUIET)


def export_tiny(checkpoint: Path, out: Path) -> Path:
    """Export with half of the channels kept."""
    export_bundle(open_source(checkpoint, [16]), out, QUICK, QUIET)
    return out
