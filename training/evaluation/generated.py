"""Tasks on the data that a recipe generates: no store is needed, the clips lie behind those of the training."""

from __future__ import annotations

from pathlib import Path

from tessera.errors import TrainingError
from training.config import Recipe
from training.data.generated import GeneratedData
from training.data.spiked import SpikedData
from training.evaluation.catalogue import Opener
from training.evaluation.tasks.spiked import spiked_task
from training.evaluation.tasks.task import Settings, Task
from training.evaluation.tasks.world import world_task


def own_task(recipe: Recipe) -> str:
    """The task on the data that a recipe was trained on.

    Raises:
        TrainingError: it was trained on stored features, of which there is no one task.
    """
    for task in ("world", "spiked"):
        if task in recipe.data:
            return task
    raise TrainingError("the runs were not trained on generated data: say with --tasks what to score")


def generated_tasks(recipe: Recipe, checkpoint: Path, cache: Path, settings: Settings) -> dict[str, Opener]:
    """How the tasks on the data of `recipe` are opened; features are made once and then read from `cache`."""

    def world() -> Task:
        _require(recipe, "world", "the generated world")
        data, tokenizer_json = GeneratedData.of(recipe.data), _tokenizer_of(checkpoint)
        fit, test = (data.features(split, tokenizer_json, cache) for split in ("validation", "test"))
        return world_task(fit, test, settings)

    def spiked() -> Task:
        _require(recipe, "spiked", "spiked events")
        return spiked_task(SpikedData.of(recipe.data), settings)

    return {"world": world, "spiked": spiked}


def _require(recipe: Recipe, kind: str, words: str) -> None:
    if kind not in recipe.data:
        raise TrainingError(f"the runs were not trained on {words}")


def _tokenizer_of(checkpoint: Path) -> str:
    try:
        return (checkpoint / "tokenizer.json").read_text()
    except OSError:
        raise TrainingError(
            f"'{checkpoint}' has no tokenizer.json: it was not trained on this data"
        ) from None
