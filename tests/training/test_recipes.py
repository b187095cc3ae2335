"""Every recipe that comes with Tessera says what to expect of it, and takes its first steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.training.small import QUIET, RandomClips, small_recipe
from training.checkpoint import load_model
from training.config import RECIPES, Recipe, recipe_names
from training.models.catalogue import build_model
from training.randomness import seed_everything
from training.trainer import train


def affordable(recipe: Recipe) -> Recipe:
    """The same choices in a size that a test can afford: published widths cost minutes a step."""
    training = {**recipe.training.model_dump(), "steps": 3, "batch_size": 8, "save_every": 3}
    document = {**recipe.model_dump(mode="json"), "training": training}
    if recipe.name.endswith("paper"):
        kept = {"layers": recipe.model.layers, "video_branch": recipe.model.video_branch}
        document["model"] = {**small_recipe().model.model_dump(mode="json"), **kept}
    return Recipe.parse(document)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_takes_its_first_steps(name: str, tmp_path: Path) -> None:
    recipe = affordable(Recipe.load(name))
    seed_everything(0)
    checkpoint = train(build_model(recipe), RandomClips(recipe, 16), recipe, tmp_path, console=QUIET)
    assert load_model(checkpoint)[1:] == (recipe, 3)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_states_its_result_its_cost_and_its_command(name: str) -> None:
    header = "".join(
        line for line in (RECIPES / f"{name}.yaml").read_text().splitlines(True) if line.startswith("#")
    )
    assert f"tessera train {name} " in header
    assert re.search(r"Expect (about )?[\d.]+ |Published|published|Not measured yet", header), "no result"
    assert re.search(r"minutes?|epochs of \d+ steps", header), "no cost"


def test_recipes_of_one_name_are_one_recipe() -> None:
    names = [Recipe.load(name).name for name in recipe_names()]
    assert len(set(names)) == len(names)
