"""Spiked events: which event a clip is of, and what its codes give away of the nuisance."""

from __future__ import annotations

from training.data.spiked import SpikedData
from training.evaluation.tasks.probing import ProbeTask, Seen
from training.evaluation.tasks.task import Settings, Task


def spiked_task(data: SpikedData, settings: Settings, seen: Seen = "embeddings") -> Task:
    """Fitted on the validation clips and tested on the test clips, which no training saw."""
    fit, test = data.of_split("validation"), data.of_split("test")
    return ProbeTask(
        "spiked",
        fit.feature_set(),
        test.feature_set(),
        data.spiked.events,
        settings,
        (fit.nuisance, test.nuisance),
        seen,
    )
