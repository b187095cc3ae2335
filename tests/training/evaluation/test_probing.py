"""The probe on generated data: intervals, transfer, the nuisance, and the document that a model card reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.training.evaluation.known import CLASSES, SECONDS, speaking_clips, speaking_coder
from training.data.features import FeatureSet
from training.evaluation.coder import Coded
from training.evaluation.nuisance import nuisance_share
from training.evaluation.probe import Interval, cross_modal_accuracy, directions
from training.evaluation.scores import task_scores, whole_document
from training.evaluation.tasks.probing import ProbeTask, Seen
from training.evaluation.tasks.task import Settings


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


@pytest.mark.parametrize("seen", ["embeddings", "histogram"])
def test_codes_that_say_the_class_score_all_and_those_of_other_clips_chance(seen: Seen) -> None:
    fit, test = speaking_clips(200, 0, shuffled="video"), speaking_clips(400, 1, shuffled="video")
    task = ProbeTask("known", fit, test, CLASSES, Settings(), seen=seen)
    scores = task_scores(task, [task.score(speaking_coder(), 1)])
    assert scores["directions"]["audio -> text"]["mean"] == 1
    assert scores["directions"]["text -> audio"]["mean"] == 1
    assert abs(scores["directions"]["audio -> video"]["mean"] - scores["chance"]) < 0.1
    assert abs(scores["within"]["video"]["mean"] - scores["chance"]) < 0.1
    assert scores["chance"] == 1 / CLASSES
    assert scores["clips"] == {"fit": 200, "test": 400}
    assert scores["agreement"]["audio and text"] == 1
    assert scores["codebook"]["audio"] == pytest.approx({"size": 5, "used": 4, "dead": 1, "perplexity": 4})


def test_the_released_protocol_fits_on_the_tested_clips() -> None:
    """Labels that nothing shows can be fitted, and found again in the same clips alone."""
    rng = np.random.default_rng(0)

    def clips(seed: int) -> FeatureSet:
        same = speaking_clips(30, seed)
        unseen = rng.normal(size=(30, SECONDS, 5)).astype(np.float32)
        return FeatureSet(unseen, None, unseen, np.full(30, SECONDS), same.labels)

    fit, test = clips(0), clips(1)
    accuracies = {}
    for protocol in ("held_out", "paper"):
        task = ProbeTask("known", fit, test, CLASSES, Settings(protocol))  # type: ignore[arg-type]
        coder = speaking_coder()
        coder.modalities = ("audio", "text")
        accuracies[protocol] = task_scores(task, [task.score(coder, 1)])["mean"]["mean"]
    assert accuracies["paper"] > accuracies["held_out"] + 0.1
    assert "that it was fitted on" in task.caption


def random_coded(seed: int, clips: int = 300) -> Coded:
    codes = torch.randint(0, 6, (clips, 5, 1), generator=torch.Generator().manual_seed(seed))
    return Coded(codes, torch.ones(clips, 5, dtype=torch.bool), codes.double())


@pytest.mark.parametrize("of_segments", [True, False])
def test_a_nuisance_that_the_codes_say_is_found_and_another_is_not(of_segments: bool) -> None:
    rng = np.random.default_rng(0)
    fit, test, meaning = random_coded(0), random_coded(1), rng.normal(size=(6, 3))

    def told(coded: Coded) -> np.ndarray:
        segments: np.ndarray = meaning[coded.codes[..., 0].numpy()]
        return segments if of_segments else segments.mean(axis=1)

    assert nuisance_share(fit, told(fit), test, told(test), (6,)) > 0.98
    other = [rng.normal(size=told(one).shape) for one in (fit, test)]
    assert nuisance_share(fit, other[0], test, other[1], (6,)) < 0.02


def test_what_varies_between_runs_are_runs() -> None:
    """Heads are averaged within a run; of a single run the heads are what varies."""
    fit, test = speaking_clips(80), speaking_clips(80, 1)
    task = ProbeTask("known", fit, test, CLASSES, Settings())
    result = task.score(speaking_coder(), 1)
    pairs = list(result.outcomes[0])

    def with_heads(*values: float) -> object:
        outcomes = [{pair: {"accuracy": value} for pair in pairs} for value in values]
        return type(result)(outcomes, result.coded, result.paired, result.sizes)

    one = task_scores(task, [with_heads(0.5, 0.7, 0.9)])  # type: ignore[list-item]
    assert one["mean"]["half_width"] == pytest.approx(Interval.of([0.5, 0.7, 0.9]).half_width)
    two = task_scores(task, [with_heads(0.5, 0.7), with_heads(0.8, 1.0)])  # type: ignore[list-item]
    assert two["mean"]["mean"] == pytest.approx(0.75)
    assert two["mean"]["half_width"] == pytest.approx(Interval.of([0.6, 0.9]).half_width)


def test_a_model_card_is_about_held_out_clips_of_generated_data() -> None:
    task = ProbeTask("known", speaking_clips(80), speaking_clips(80, 1), CLASSES, Settings())
    scores = task_scores(task, [task.score(speaking_coder(), 1)])
    toc = {"kept_channels": 16, "toc_lambda": 0.3, "toc_ratio": [1, 0]}
    for name in ("world", "spiked"):
        document = whole_document({"ave": {}, name: scores}, [3], "held_out", toc)
        assert document["directions"] == scores["directions"] == document["tasks"][name]["directions"]
        assert document["kept_channels"] == 16
        assert document["seeds"] == [3]
    assert "directions" not in whole_document({"world": scores}, [3], "paper", toc)
    assert "directions" not in whole_document({"ave": scores}, [3], "held_out", toc)
