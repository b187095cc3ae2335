"""The generated world: which of its events a clip shows."""

from __future__ import annotations

from training.data.features import FeatureSet
from training.data.world import EVENTS
from training.evaluation.tasks.probing import ProbeTask
from training.evaluation.tasks.task import Settings, Task


def world_task(validation: FeatureSet, test: FeatureSet, settings: Settings) -> Task:
    """Fitted on the validation clips and tested on the test clips, which no training saw."""
    return ProbeTask("world", validation, test, len(EVENTS), settings)
