"""The evaluation: intervals, the probe, usage and agreement, and what it refuses to mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tessera.errors import TrainingError
from tests.tiny import RECIPE, tiny_features
from training.checkpoint import load_model
from training.commands import evaluate as evaluate_command
from training.data.features import FeatureSet
from training.evaluation.held_out import evaluate
from training.evaluation.probe import Interval, cross_modal_accuracy, directions


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return tiny_features(tmp_path_factory.mktemp("cache"))[0]


def test_an_interval_is_students() -> None:
    values = (0.9, 0.8, 0.85)
    interval = Interval.of(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert interval.mean == pytest.approx(np.mean(values))
    assert interval.half_width == pytest.approx((high - low) / 2)
    assert Interval.of([0.5]) == Interval(0.5, None)


def test_the_probe_carries_over_where_modalities_share_a_space_and_not_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    centres = rng.normal(size=(4, 8)) * 4
    shared = {
        name: (centres[labels] + rng.normal(size=(200, 8))).astype(np.float32) for name in ("audio", "text")
    }
    shared["video"] = rng.normal(size=(200, 8)).astype(np.float32)
    scores = cross_modal_accuracy(shared, labels, shared, labels)  # type: ignore[arg-type]
    assert scores["audio", "text"] > 0.95
    assert scores["audio", "video"] < 0.5
    assert len(directions(["audio", "video", "text"])) == 6


def test_the_scores_of_one_run_have_no_interval(tiny_run: Path, clips: FeatureSet) -> None:
    model, recipe, _ = load_model(tiny_run)
    scores = evaluate([(recipe.training.seed, model)], clips, clips, keep=16)
    assert set(scores["directions"]) == {f"{a} -> {b}" for a, b in directions(["audio", "video", "text"])}
    assert all(value["half_width"] is None for value in scores["directions"].values())
    assert scores["kept_channels"] == 16
    for use in scores["codebook"].values():
        assert 1 <= use["perplexity"] <= use["used"] <= use["size"] == RECIPE.codebook.size
    assert all(0 <= share <= 1 for share in scores["agreement"].values())


def test_the_same_run_twice_is_no_interval(tiny_run: Path) -> None:
    with pytest.raises(TrainingError, match="different seeds"):
        evaluate_command([tiny_run, tiny_run])
