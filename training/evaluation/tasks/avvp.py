"""AVVP: which of 25 events are heard or seen in each second; sounds and pictures have labels of their own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tessera.errors import TrainingError
from training.evaluation.tasks.heads import EventTask, Parts
from training.evaluation.tasks.parts import open_store, sides, whole
from training.evaluation.tasks.task import Column, Settings, Task

EPOCHS: dict[Column, int] = {"dcid": 50, "toc": 100, "fcid": 50}
_SAME_CLIPS = "Nine of ten clips that are tested on were fitted on in the other modality."


class AVVP(EventTask):
    """By protocol `paper` the scripts of DCID and TOC report precision, which their papers call accuracy."""

    by_precision: ClassVar[bool] = True


def open_avvp(data: Path | None, settings: Settings) -> Task:
    """Fitted on the clips of one modality's labels, tested on those of the other's.

    `held_out` divides the clips by their names; `paper` uses all of them for both.

    Raises:
        TrainingError: the stores `avvp-video` and `avvp-audio` are not in `data`, or lack something, or do not have
            the same classes.
    """
    heard, seen = open_store(data, "avvp-audio"), open_store(data, "avvp-video")
    if heard.classes != seen.classes:
        raise TrainingError(f"'{heard.folder}' has other classes than '{seen.folder}'")
    every: Parts = {"audio": whole(heard, settings), "video": whole(seen, settings)}
    classes = len(seen.classes)
    if settings.protocol == "paper":
        return AVVP("avvp", every, every, classes, settings, EPOCHS, _SAME_CLIPS)
    fit, test = sides(every)
    return AVVP("avvp", fit, test, classes, settings, EPOCHS)
