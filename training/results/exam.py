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
    """The clips that a control is fitted on, and the probe."""

    train: FeatureSet
    task: Task


def open_exam(data: Mapping[str, Any], cache: Path) -> Exam:
    """That of the `data` part of a recipe.

    Raises:
        TrainingError: it names no generated data.
    """
    if "spiked" in data:
        spiked = SpikedData.of(data)
        return Exam(spiked.features("train"), spiked_task(spiked, Settings()))
    if "world" in data:
        return _world(GeneratedData.of(data), cache)
    raise TrainingError("tables are made of generated data: the recipe names neither world nor spiked")


def oracle_of(data: Mapping[str, Any]) -> float | None:
    """What the probe scores on the true latents of a `data` part; None where there are none.

    Raises:
        TrainingError: a setting is unknown or of the wrong type.
    """
    if "spiked" not in data:
        return None
    spiked = SpikedData.of(data)
    fit, test = spiked.of_split("validation"), spiked.of_split("test")
    return oracle_accuracy(fit.latent, fit.labels, test.latent, test.labels)


def _world(data: GeneratedData, cache: Path) -> Exam:
    tokenizer_json = data.tokenizer_json()
    train, fit, test = (data.features(s, tokenizer_json, cache) for s in ("train", "validation", "test"))
    return Exam(train, world_task(fit, test, Settings()))
