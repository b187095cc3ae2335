"""What models and controls of a table are asked: clips to learn from, and the held-out probe on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.errors import TrainingError
from training.data.features import FeatureSet
from training.data.generated import GeneratedData
from training.data.spiked import SpikedData
from training.evaluation.controls import oracle_accuracy
from training.evaluation.tasks.spiked import spiked_task
from training.evaluation.tasks.task import Settings, Task
from training.evaluation.tasks.world import world_task


@dataclass(frozen=True)
class Exam:
    """The clips that a control is fitted on, the probe, and what the true latents would score, where they are known."""

    train: FeatureSet
    task: Task
    oracle: float | None


def open_exam(data: Mapping[str, Any], cache: Path) -> Exam:
    """That of the `data` part of a recipe.

    Raises:
        TrainingError: it names no generated data.
    """
    if "spiked" in data:
        return _spiked(SpikedData.of(data))
    if "world" in data:
        return _world(GeneratedData.of(data), cache)
    raise TrainingError("tables are made of generated data: the recipe names neither world nor spiked")


def _spiked(data: SpikedData) -> Exam:
    fit, test = data.of_split("validation"), data.of_split("test")
    oracle = oracle_accuracy(fit.latent, fit.labels, test.latent, test.labels)
    return Exam(data.features("train"), spiked_task(data, Settings()), oracle)


def _world(data: GeneratedData, cache: Path) -> Exam:
    tokenizer_json = data.tokenizer_json()
    train, fit, test = (data.features(s, tokenizer_json, cache) for s in ("train", "validation", "test"))
    return Exam(train, world_task(fit, test, Settings()), None)
