"""Recipes: YAML to settings and back, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tessera.errors import TrainingError
from training.config import RECIPES, Recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_by_name_and_survives_json(path: Path) -> None:
    recipe = Recipe.load(path.stem)
    assert recipe == Recipe.load(str(path))
    assert recipe == Recipe.model_validate_json(recipe.model_dump_json())


def test_the_paper_recipe_makes_the_released_choices_and_the_default_ours() -> None:
    paper, ours = Recipe.load("fcid-paper"), Recipe(name="default")
    assert paper.model == ours.model
    assert (paper.codebook.update, paper.codebook.start, paper.codebook.reset) == (
        "paper",
        "uniform",
        "paper",
    )
    assert (ours.codebook.update, ours.codebook.start, ours.codebook.reset) == (
        "fused",
        "first_batch",
        "statistics",
    )
    assert (paper.losses.variant, ours.losses.variant) == ("paper", "intended")
    assert paper.training.crop is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"modle": {}}, "recipe: modle: there is no such setting"),
        ({"model": {"width": 3}}, "recipe: model.width: there is no such setting"),
        ({"model": {"dim": "wide"}}, "recipe: model.dim: "),
        ({"model": {"dim": 10, "heads": 4}}, "recipe: model: dim 10 cannot be shared by 4 heads"),
        ({"model": {"video_grid": 4}}, "recipe: model.video_grid: "),
        ({"codebook": {"reset": "paper"}}, "recipe: codebook: reset 'paper' needs update 'paper'"),
        ({"training": {"crop": [5, 2]}}, "recipe: training: crop [5, 2] is no range of seconds"),
        ({"training": {"crop": [0, 2]}}, "recipe: training: crop [0, 2] is no range of seconds"),
        ({"method": "telepathy"}, "recipe: method: "),
    ],
)
def test_a_wrong_setting_is_named(part: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as raised:
        Recipe.parse({"name": "x", **part})
    assert str(raised.value).startswith(message)


def test_an_unknown_recipe_gets_the_list_of_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"no recipe 'fcid-papre'; known by name: .*fcid-paper"):
        Recipe.load("fcid-papre")


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe\x00", b"", b"- a list"])
def test_a_file_that_is_no_recipe_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(TrainingError):
        Recipe.load(str(path))


def test_training_settings_can_be_changed_and_are_checked() -> None:
    recipe = Recipe(name="x")
    assert recipe.with_training(steps=3).training.steps == 3
    assert recipe.training.steps != 3
    with pytest.raises(TrainingError, match=r"training\.steps"):
        recipe.with_training(steps=0)
