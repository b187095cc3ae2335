"""Runs of one recipe through several tasks: each model is loaded once and let go of before the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tessera.errors import TrainingError
from training.checkpoint import load_model
from training.config import Recipe
from training.data.sources import trained_on
from training.evaluation.coder import ModelCoder
from training.evaluation.scores import Document, task_scores, whole_document
from training.evaluation.tasks.task import Result, Task
from training.widths import require_width

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Toc:
    """Which channels are kept; `keep` None keeps all."""

    keep: int | None = None
    lambda_: float = 0.3
    ratio: tuple[int, int] = (1, 0)

    def coder(self, checkpoint: Path) -> ModelCoder:
        """The model of a checkpoint, where there is a GPU on it.

        Raises:
            TrainingError: the checkpoint is damaged, or so many channels cannot be kept.
        """
        model = load_model(checkpoint)[0].to("cuda" if torch.cuda.is_available() else "cpu")
        return ModelCoder(model, self.keep, self.lambda_, self.ratio)


@dataclass(frozen=True)
class Evaluation:
    """The scores of all tasks as one document, and the results of the first run, task by task."""

    document: Document
    first: dict[str, Result]


def score_runs(
    checkpoints: Sequence[Path],
    recipes: Sequence[Recipe],
    tasks: Sequence[Task],
    toc: Toc,
    seeds: int,
    protocol: str,
    tell: Tell,
) -> Evaluation:
    """Score the model of each checkpoint in each task, with heads of `seeds` seeds; `tell` hears what is going on.

    Raises:
        TrainingError: data are not as wide as the models take them, or a checkpoint is damaged.
    """
    for task in tasks:
        for modality, part in task.asked_for():
            if modality in recipes[0].modalities:
                require_width(modality, part.width(modality), recipes[0], f"the data of '{task.name}'")
    features = [trained_on(checkpoint) for checkpoint in checkpoints]
    results: dict[str, list[Result]] = {task.name: [] for task in tasks}
    kept = 0
    for number, checkpoint in enumerate(checkpoints, start=1):
        coder = toc.coder(checkpoint)
        kept = len(coder.kept[0])
        for task in tasks:
            tell(f"run {number} of {len(checkpoints)}: {task.name}")
            results[task.name].append(task.score(coder, seeds))
    scores = {task.name: task_scores(task, results[task.name]) for task in tasks}
    for task in tasks:
        scores[task.name]["caption"] += "".join(_foreign(task, features))
    document = whole_document(
        scores,
        [recipe.training.seed for recipe in recipes],
        protocol,
        {"kept_channels": kept, "toc_lambda": toc.lambda_, "toc_ratio": list(toc.ratio)},
    )
    return Evaluation(document, {name: found[0] for name, found in results.items()})


def require_seeds_of_one_recipe(recipes: Sequence[Recipe]) -> None:
    """An interval over seeds means something for different seeds of one recipe alone.

    Raises:
        TrainingError: they are not.
    """
    if len({recipe.training.seed for recipe in recipes}) < len(recipes):
        raise TrainingError("the runs must have different seeds")
    if any(recipe.with_training(seed=0) != recipes[0].with_training(seed=0) for recipe in recipes):
        raise TrainingError("the runs are of different recipes; score them apart")


def _foreign(task: Task, runs: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A sentence for each modality whose features are of another backbone or convention than a model knows."""
    pairs = {
        (modality, theirs, own): None
        for modality, part in task.asked_for()
        for run in runs
        if (theirs := part.features.backbones.get(modality)) and (own := run.get(modality)) and theirs != own
    }
    for modality, theirs, own in pairs:
        yield f" Mind that its {modality} is of '{theirs}'; the model was trained on '{own}'."
