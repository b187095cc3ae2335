"""Which tasks there are, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.config import Recipe
from training.evaluation.tasks.ave import open_ave
from training.evaluation.tasks.ave_avvp import open_ave_avvp
from training.evaluation.tasks.avvp import open_avvp
from training.evaluation.tasks.retrieval import open_retrieval
from training.evaluation.tasks.task import Column, Settings, Task
from training.evaluation.tasks.ucf_vgg import open_ucf_vgg

Opener = Callable[[], Task]

_STORED: dict[str, Callable[[Path | None, Settings], Task]] = {
    "ave": open_ave,
    "avvp": open_avvp,
    "ave-avvp": open_ave_avvp,
    "ucf-vgg": open_ucf_vgg,
}
NAMES = (*_STORED, "retrieval", "world", "spiked")


def task_names(text: str) -> list[str]:
    """Names with commas between them.

    Raises:
        TrainingError: one is unknown, comes twice, or there is none.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise TrainingError(f"there is no task '{name}'; there are: {', '.join(NAMES)}")
    if len(set(names)) < len(names):
        raise TrainingError(f"a task is named twice in '{text}'")
    return names


def open_tasks(
    names: Sequence[str],
    data: Path | None,
    settings: Settings,
    modalities: tuple[Modality, ...],
    generated: Mapping[str, Opener],
) -> list[Task]:
    """The tasks `names` for models of `modalities`; `generated` says how those are opened that need no store.

    Raises:
        TrainingError: data is missing or damaged, or a task needs a modality that the models do not have.
    """
    tasks: list[Task] = []
    for name in names:
        if name == "retrieval":
            tasks += open_retrieval(data, settings, modalities)
        elif name in _STORED:
            tasks.append(_STORED[name](data, settings))
        else:
            tasks.append(generated[name]())
    for task in tasks:
        if missing := [m for m in task.modalities if m not in modalities]:
            raise TrainingError(f"task '{task.name}' needs {missing[0]}, which the runs were not trained on")
    return tasks


def released_column(recipe: Recipe, keep: int | None) -> Column:
    """Whose released settings a run is scored by: FCID has its own, TOC's are those of levels and kept channels."""
    if recipe.method == "fcid":
        return "fcid"
    return "toc" if keep is not None or recipe.method in ("hdcid", "srcid") else "dcid"
