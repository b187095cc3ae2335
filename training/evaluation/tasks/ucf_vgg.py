"""UCF and VGGSound: the 16 actions that both know, seen in the one and heard in the other."""

from __future__ import annotations

import re
from pathlib import Path

from tessera.errors import TrainingError
from training.evaluation.tasks.heads import ClassTask, Parts
from training.evaluation.tasks.parts import open_store, sides, whole
from training.evaluation.tasks.task import Column, Settings, Task

EPOCHS: dict[Column, int] = {"dcid": 30, "toc": 100, "fcid": 80}
_NOTE = "Pictures are of UCF101, sounds of VGGSound."
_FILMS = "Clips of UCF101 that are cut from one film are on one side."
_SAME_CLIPS = "A modality alone is tested on the clips that it was fitted on."
_CUT = re.compile(r"(?<=_g\d\d)_c\d\d(\.\w+)?$")
"""The end of a name of UCF101, `v_Class_gNN_cNN`: clips of one class and one g are cut from the same film."""


def open_ucf_vgg(data: Path | None, settings: Settings) -> Task:
    """`held_out` divides the clips of VGGSound by their names and those of UCF101 by the names of their films, for the
    sake of what a modality scores alone.

    Raises:
        TrainingError: the stores `ucf` and `vgg` are not in `data`, or lack something, or do not have equally many
            classes.
    """
    heard, seen = open_store(data, "vgg"), open_store(data, "ucf")
    if len(heard.classes) != len(seen.classes):
        raise TrainingError(f"'{heard.folder}' and '{seen.folder}' do not have equally many classes")
    every: Parts = {"audio": whole(heard, settings), "video": whole(seen, settings)}
    if settings.protocol == "paper":
        return ClassTask(
            "ucf-vgg", every, every, len(seen.classes), settings, EPOCHS, f"{_NOTE} {_SAME_CLIPS}"
        )
    fit, test = sides(every, film_of)
    return ClassTask("ucf-vgg", fit, test, len(seen.classes), settings, EPOCHS, f"{_NOTE} {_FILMS}")


def film_of(name: str) -> str:
    """The film that a clip of UCF101 is cut from; a clip of VGGSound is one of its own."""
    return _CUT.sub("", name)
