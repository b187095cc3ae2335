"""Recipes: YAML to settings and back, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tessera.errors import TrainingError
from training.config import RECIPES, Recipe, weight_of


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_by_name_and_survives_json(path: Path) -> None:
    recipe = Recipe.load(str(path.relative_to(RECIPES).with_suffix("")))
    assert recipe == Recipe.load(str(path))
    assert recipe == Recipe.model_validate_json(recipe.model_dump_json())


def test_the_paper_recipe_makes_the_released_choices_and_the_default_ours() -> None:
    paper, ours = Recipe.load("dcid-paper"), Recipe(name="default", method="dcid")
    assert paper.model == ours.model
    assert (paper.codebook.update, paper.codebook.start, paper.codebook.reset) == (
        "paper",
        "uniform",
        "paper",
    )
    assert (ours.codebook.update, ours.codebook.start, ours.codebook.reset) == (
        "fused",
        "kmeans",
        "statistics",
    )
    assert (paper.losses.variant, ours.losses.variant) == ("paper", "intended")
    assert paper.training.crop is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"modle": {}}, "recipe: modle: there is no such setting"),
        ({"model": {"girth": 3}}, "recipe: model.girth: there is no such setting"),
        ({"model": {"dim": "wide"}}, "recipe: model.dim: "),
        ({"model": {"dim": 10, "heads": 4}}, "recipe: model: dim 10 cannot be shared by 4 heads"),
        ({"model": {"video_grid": 4}}, "recipe: model.video_grid: "),
        ({"codebook": {"reset": "paper"}}, "recipe: codebook: reset 'paper' needs update 'paper'"),
        ({"training": {"crop": [5, 2]}}, "recipe: training: crop [5, 2] is no range of seconds"),
        ({"training": {"crop": [0, 2]}}, "recipe: training: crop [0, 2] is no range of seconds"),
        ({"method": "telepathy"}, "recipe: method: "),
        ({"modalities": ["audio"]}, "recipe: the document: modalities ['audio'] are not two or three"),
        ({"modalities": ["audio", "video"]}, "recipe: the document: fcid with two modalities needs half"),
        ({"half": "fine"}, "recipe: the document: half is for fcid with two modalities"),
        (
            {"half": "fine", "modalities": ["audio", "text"]},
            "recipe: the document: the fine half of fcid is for audio and video",
        ),
        (
            {"method": "canonical", "model": {"encoder": "canonical"}, "codebook": {"quantizer": "fsq"}},
            "recipe: the document: method 'canonical' has no loss that trains fsq: take vq or residual",
        ),
        (
            {"method": "canonical", "model": {"encoder": "canonical"}},
            "recipe: the document: method 'canonical' needs codebook.partners 'none'",
        ),
        (
            {"method": "canonical", "codebook": {"partners": "none"}},
            "recipe: the document: model.encoder 'canonical' is for canonical, which",
        ),
        ({"model": {"encoder": "canonical"}}, "recipe: the document: model.encoder 'canonical' is for"),
        (
            {"method": "dcid", "model": {"encoder": "canonical", "width": 10}},
            "recipe: model: width 10 cannot be shared by 4 heads",
        ),
        ({"method": "vq"}, "recipe: the document: method 'vq' needs codebook.partners 'none'"),
        ({"method": "hdcid"}, "recipe: the document: method 'hdcid': warm_start is for hdcid and srcid"),
        ({"method": "srcid", "warm_start": {"steps": 3}}, "recipe: the document: warm_start.mi_below is for"),
        ({"training": {"batch_size": 6, "accumulate": 4}}, "recipe: training: a batch of 6 clips cannot be"),
    ],
)
def test_a_wrong_setting_is_named(part: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as raised:
        Recipe.parse({"name": "x", **part})
    assert str(raised.value).startswith(message)


def test_an_unknown_recipe_gets_the_list_of_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"no recipe 'fcid-papre'; known: .*fcid-paper"):
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


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_recipe_changes_its_base_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("base: demo\nname: below\ncodebook: {size: 9}\n")
    above = write(tmp_path / "above.yaml", "base: below.yaml\nname: above\ntraining: {steps: 3}\n")
    recipe, demo = Recipe.load(above), Recipe.load("demo")
    assert (recipe.name, recipe.codebook.size, recipe.training.steps) == ("above", 9, 3)
    assert recipe.model == demo.model
    assert recipe.training.learning_rate == demo.training.learning_rate


def test_a_recipe_cannot_be_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\nname: a\n")
    b = write(tmp_path / "b.yaml", "base: a.yaml\nname: b\n")
    with pytest.raises(TrainingError, match="is a base of itself"):
        Recipe.load(b)


def test_the_longest_beginning_of_a_name_decides_its_weight() -> None:
    weights = {"club": 0.0, "club/audio": 2.0, "level2": 0.3}
    names = ("club/audio", "club/video", "level2/club/audio", "clubs", "cpc")
    assert [weight_of(name, weights) for name in names] == [2.0, 0.0, 0.3, 1.0, 1.0]
