"""Some clips of a feature set: the same clips for a trainer, which asks for batches, and for tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.data.spiked import SpikedWorld

ROWS = np.arange(239, 0, -2)


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    return SpikedWorld(seconds=4).clips("train", 240).feature_set()


def test_batches_are_those_clips_in_that_order(features: FeatureSet) -> None:
    some = Selection(features, ROWS)
    assert len(some) == len(ROWS)
    text = torch.cat([batch for batch, _ in some.batches("text")])
    assert torch.equal(text, torch.from_numpy(features.text[ROWS]))  # type: ignore[index]
    assert torch.equal(some.batch(torch.tensor([2, 0]))["text"], text[[2, 0]])
    assert torch.equal(some.labels, torch.from_numpy(features.labels[ROWS]))
    assert some.width("audio") == 64


@pytest.mark.parametrize("every_slot", [False, True])
def test_empty_slots_of_a_text_count_where_it_is_said(features: FeatureSet, every_slot: bool) -> None:
    some = Selection(features, ROWS, every_slot).where(ROWS > 100)
    assert len(some) == 70
    assert ("text_mask" in some.batch(torch.arange(2))) is not every_slot
    assert all((mask is None) is every_slot for _, mask in some.batches("text"))
    assert all(mask is None for _, mask in some.batches("audio"))


def test_what_the_data_does_not_say_is_told_of(features: FeatureSet) -> None:
    silent = Selection.whole(FeatureSet(None, features.video, None, None, features.labels))
    with pytest.raises(TrainingError, match="no audio"):
        next(silent.batches("audio"))
    with pytest.raises(TrainingError, match="no classes of segments"):
        _ = silent.cells
    with pytest.raises(TrainingError, match="no names"):
        _ = silent.names
