"""Where the clips of a run come from: generated, spiked, or a feature store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tessera.errors import TrainingError
from tests.training.evaluation.known import write_store
from training.config import Recipe
from training.data.sources import counts_every_slot, on_store, open_source


def test_a_recipe_names_its_data(tmp_path: Path) -> None:
    spiked = open_source({"spiked": {"events": 3}, "clips": {"train": 7}})
    clips = spiked.training_clips(tmp_path)
    assert len(clips) == 7
    assert clips.batch(torch.tensor([6, 0]))["audio"].shape == (2, 10, 64)
    assert spiked.files() == {}


@pytest.mark.parametrize("data", [{}, {"every_slot": True}])
def test_a_recipe_without_data_says_how_to_give_it(data: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="names no data: give the folder of a feature store with --data"):
        open_source(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"store": "x", "split": ["train"]}, "split: Extra inputs are not permitted"),
        ({"world": {"seed": 1}, "clips": {}, "splits": ["train"]}, "splits: Unexpected keyword argument"),
        ({"spiked": {"seed": 1}, "clips": {}, "every_slot": True}, "every_slot: Unexpected keyword argument"),
        ({"world": {"seed": "one"}, "clips": {}}, "world.seed: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        open_source(data)


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is no feature store: it has no store\.json"):
        open_source({"store": str(tmp_path / "none")}).training_clips(tmp_path)


@pytest.mark.parametrize("changes", [{"store": "stores/x"}, {"spiked": {"events": 3}}])
def test_a_recipe_does_not_train_in_silence_on_the_data_of_its_base(
    changes: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"base": "demo", "data": changes}))
    named = "world and (store|spiked), .* base; give a feature store with --data"
    with pytest.raises(TrainingError, match=named):
        open_source(Recipe.load(str(path)).data)


@pytest.mark.parametrize(
    ("data", "expected"), [({}, False), ({"every_slot": True}, True), ({"store": "x"}, False)]
)
def test_whether_empty_slots_count_is_told_without_a_store(data: dict[str, object], expected: bool) -> None:
    assert counts_every_slot(data) is expected
    with pytest.raises(TrainingError, match="data settings: every_slot: Input should be a valid boolean"):
        counts_every_slot({**data, "every_slot": "perhaps"})


def test_a_rewritten_store_is_told_from_the_one_before(tmp_path: Path) -> None:
    files = []
    for seed in (0, 0, 1):
        seconds = np.random.default_rng(seed).integers(0, 4, (5, 10))
        write_store(tmp_path / str(len(files)), "ave", seconds)
        files.append(open_source({"store": str(tmp_path / str(len(files)) / "ave")}).files())
    assert files[0] == files[1]
    assert files[0].keys() == files[2].keys() == {"data.json", "features.json"}
    assert files[0] != files[2]


def test_another_store_keeps_how_a_store_is_read() -> None:
    paper = Recipe.load("dcid-paper")
    data = on_store({**paper.data, "splits": ["train"]}, Path("stores/x"))
    assert data == {"store": "stores/x", "every_slot": True, "splits": ["train"]}
    assert on_store(Recipe.load("demo").data, Path("y")) == {"store": "y"}
