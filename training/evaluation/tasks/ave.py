"""AVE: the event of a clip of ten seconds, one of 28."""

from __future__ import annotations

from pathlib import Path

from training.evaluation.tasks.heads import ClassTask
from training.evaluation.tasks.parts import both, of_split, open_store
from training.evaluation.tasks.task import Column, Settings, Task

EPOCHS: dict[Column, int] = {"dcid": 30, "toc": 50, "fcid": 25}
_SAME_CLIPS = "Tested on the clips that the head was fitted on, the training split of AVE."


def open_ave(data: Path | None, settings: Settings) -> Task:
    """Fitted on the training split; tested on the test split, or by protocol `paper` on the training split again.

    Raises:
        TrainingError: the store `ave` is not in `data`, or lacks something.
    """
    store = open_store(data, "ave")
    fit = of_split(store, "train", settings)
    classes = len(store.classes)
    if settings.protocol == "paper":
        return ClassTask("ave", both(fit), both(fit), classes, settings, EPOCHS, _SAME_CLIPS)
    return ClassTask("ave", both(fit), both(of_split(store, "test", settings)), classes, settings, EPOCHS)
