"""A plan: which recipes are trained on which settings of their data, and which controls they are held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tessera.errors import TrainingError
from training.config import Recipe, merged
from training.results.job import LINEAR, ControlJob, Job, TrainingJob

PLANS = Path(__file__).parent / "plans"

Positive = Annotated[int, Field(ge=1)]


class Plan(BaseModel):
    """One table for each of `settings`, which are laid over the `data` of the recipes; `rows` are recipes by label.

    All recipes are on the same data. `keep`: the share of a model's channels that TOC keeps where the table says so.
    The controls have `codes` codes, linear ones on `dims` dimensions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    keep: Annotated[float, Field(gt=0, le=1)]
    codes: Positive
    dims: tuple[Positive, ...] = (8, 16)
    settings: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    rows: Annotated[dict[str, str], Field(min_length=1)]

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """A plan of `training/results/plans` by name, or any other by path.

        Raises:
            TrainingError: there is no such plan, or it has an unknown or wrong setting.
        """
        path = PLANS / f"{name_or_path}.yaml"
        try:
            document = yaml.safe_load((path if path.exists() else Path(name_or_path)).read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            known = ", ".join(plan_names())
            raise TrainingError(f"there is no plan '{name_or_path}'; known: {known}") from None
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise TrainingError(f"plan '{name_or_path}': {where}: {first['msg']}") from None

    def jobs(self, seeds: int) -> Iterator[Job]:
        """All of a seed before those of the next, so that of an unfinished table every row is there.

        Raises:
            TrainingError: there is no such recipe, or one is on other data than the first.
        """
        recipes = {row: Recipe.load(name) for row, name in self.rows.items()}
        first, *others = recipes
        for row in others:
            if recipes[row].data != recipes[first].data:
                raise TrainingError(
                    f"row '{row}' is on other data than row '{first}': a table is of equal data"
                )
        for seed in range(seeds):
            for setting, changes in self.settings.items():
                data = merged(recipes[first].data, changes)
                yield from self._controls(setting, data, seed)
                for row, recipe in recipes.items():
                    keep = max(1, round(self.keep * recipe.model.dim))
                    yield TrainingJob(setting, row, recipe.with_training(seed=seed).with_data(data), keep)

    def _controls(self, setting: str, data: dict[str, Any], seed: int) -> Iterator[Job]:
        widest = max(self.dims)
        yield ControlJob(setting, "unaligned k-means", seed, "unaligned k-means", widest, self.codes, data)
        for dims in self.dims:
            row = f"linear CCA, {dims} dimensions + k-means"
            yield ControlJob(setting, row, seed, LINEAR, dims, self.codes, data)


def plan_names() -> list[str]:
    """Every plan that comes with Tessera."""
    return sorted(path.stem for path in PLANS.glob("*.yaml"))
