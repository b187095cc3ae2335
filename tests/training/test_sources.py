"""Where the clips of a run come from: generated, spiked, or a feature store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from training.config import Recipe
from training.data.sources import Clips, on_store, open_source


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
        ({"world": {"seed": "one"}, "clips": {}}, "world.seed: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        open_source(data)


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is no feature store: it has no store\.json"):
        open_source({"store": str(tmp_path / "none")}).training_clips(tmp_path)


def test_the_empty_slots_of_a_text_count_where_the_recipe_says_so() -> None:
    from training.data.spiked import SpikedWorld

    features = SpikedWorld().clips("train", 4).feature_set()
    rows = np.array([3, 1])
    assert "text_mask" in Clips(features, rows).batch(torch.arange(2))
    batch = Clips(features, rows, every_slot=True).batch(torch.arange(2))
    assert "text_mask" not in batch
    assert torch.equal(batch["text"][0], torch.from_numpy(features.text[3]))  # type: ignore[index]


def test_another_store_keeps_how_a_store_is_read() -> None:
    paper = Recipe.load("dcid-paper")
    data = on_store({**paper.data, "splits": ["train"]}, Path("stores/x"))
    assert data == {"store": "stores/x", "every_slot": True, "splits": ["train"]}
    assert on_store(Recipe.load("demo").data, Path("y")) == {"store": "y"}
