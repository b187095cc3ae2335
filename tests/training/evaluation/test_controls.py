"""The controls: chance where nothing is shared, and all of what is linear where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tessera.errors import TrainingError
from training.data.selection import Selection
from training.data.spiked import SpikedData
from training.evaluation.controls import (
    correlated_kmeans,
    oracle_accuracy,
    unaligned_kmeans,
)
from training.evaluation.scores import task_scores
from training.evaluation.tasks.spiked import spiked_task
from training.evaluation.tasks.task import Settings

CLIPS = {"train": 400, "validation": 300, "test": 200}


def spiked(**settings: float) -> SpikedData:
    return SpikedData.of({"spiked": {"events": 5, **settings}, "clips": CLIPS})


def test_the_linear_control_is_strong_and_the_negative_one_is_none() -> None:
    data = spiked()
    train, task = data.features("train"), spiked_task(data, Settings())
    strong = task_scores(task, [task.score(correlated_kmeans(train, 24, 8, 0), 1)])
    nothing = task_scores(task, [task.score(unaligned_kmeans(train, 24, 8, seed), 1) for seed in range(6)])
    fit, test = data.of_split("validation"), data.of_split("test")
    oracle = oracle_accuracy(fit.latent, fit.labels, test.latent, test.labels)
    assert 0.85 < strong["mean"]["mean"] <= oracle
    assert abs(nothing["mean"]["mean"] - nothing["chance"]) < 0.15
    assert min(value["mean"] for value in nothing["within"].values()) > 0.5
    assert strong["agreement"]["audio and text"] > 0.35
    assert max(value["mean"] for value in strong["nuisance"].values()) < 0.1


def test_a_strong_nuisance_is_told_from_the_codes_that_follow_it() -> None:
    data = spiked(nuisance_strength=3.0)
    task = spiked_task(data, Settings())
    scores = task_scores(task, [task.score(unaligned_kmeans(data.features("train"), 24, 8, 0), 1)])
    assert min(value["mean"] for value in scores["nuisance"].values()) > 0.2


@pytest.mark.parametrize("control", [unaligned_kmeans, correlated_kmeans])
def test_fewer_segments_than_codes_are_refused(control: Callable[..., object]) -> None:
    few = SpikedData.of({"spiked": {"seconds": 4}, "clips": {"train": 3}}).features("train")
    with pytest.raises(TrainingError, match=r"\d+ segments to learn from are too few for 400 codes"):
        control(few, 400, 2, 0)


def test_a_control_is_a_function_of_its_seed() -> None:
    data = spiked()
    train, part = data.features("train"), Selection.whole(data.features("test"))
    first, same, other = (correlated_kmeans(train, 24, 8, seed).encode(part, "text") for seed in (0, 0, 1))
    assert first.codes.equal(same.codes)
    assert not first.codes.equal(other.codes)
    assert first.vectors.shape[-1] == 8
