"""Whether features are as wide as a model takes them."""

from __future__ import annotations

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.config import Recipe


def require_width(modality: Modality, width: int, recipe: Recipe, whose: str = "the data") -> None:
    """Refuse features of other widths than those that models of `recipe` take; `whose` they are is said.

    Raises:
        TrainingError: they do not match.
    """
    model = recipe.model
    expected = {"audio": model.audio_dim, "video": model.video_dim, "text": model.text_dim}[modality]
    if width != expected:
        found = f"{width} features wide, {modality}_dim is {expected}"
        raise TrainingError(f"{whose} and the recipe do not match: {modality} is {found}")
