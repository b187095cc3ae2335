"""A recipe: everything that decides a training run, as one YAML file and as the JSON beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tessera.errors import TrainingError

RECIPES = Path(__file__).parent / "recipes"

Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Part):
    """Widths. The defaults are the published ones (docs/fcid.md 1)."""

    dim: Positive = 256
    heads: Positive = 4
    feed_forward: Positive = 1024
    layers: Positive = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    audio_dim: Positive = 128
    video_dim: Positive = 512
    video_grid: Annotated[int, Field(ge=5)] = 7
    text_dim: Positive = 768
    squeeze_dim: Positive = 64
    video_hidden: tuple[Positive, Positive] = (1024, 2048)
    club_video_dim: Positive = 512
    club_hidden: Positive = 128

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} cannot be shared by {self.heads} heads")
        return self


class CodebookConfig(_Part):
    """The alphabet and how it moves.

    `update`: `fused` moves it once a step for all modalities, counts starting at one; `paper` one modality
    after the other, counts starting at zero, as released. `start`: rows of the first batch, or small uniform
    ones. `reset`: `statistics` moves sums and counts of a dead code too; `paper` only its row, which the next
    step undoes.
    """

    size: Annotated[int, Field(ge=2, le=65_536)] = 400
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    commitment: Annotated[float, Field(ge=0)] = 0.25
    update: Literal["fused", "paper"] = "fused"
    start: Literal["first_batch", "uniform"] = "first_batch"
    reset: Literal["statistics", "paper", "off"] = "statistics"
    reset_after: Positive = 300

    @model_validator(mode="after")
    def _rows_are_replaced_where_they_are_kept(self) -> Self:
        if self.reset == "paper" and self.update != "paper":
            raise ValueError("reset 'paper' needs update 'paper': a fused codebook has no rows of its own")
        return self


class LossConfig(_Part):
    """Settings of the losses; `variant` chooses the formulas as intended or as released (docs/fcid.md 5).

    `weights` go by the names that are logged; a loss that is not listed weighs one, and one of weight zero is
    still computed and logged.
    """

    temperature: PositiveFloat = 0.1
    variant: Literal["intended", "paper"] = "intended"
    weights: dict[str, float] = {}


class TrainingConfig(_Part):
    """The optimisation.

    `crop`: each step sees a random stretch of that many seconds of sound and picture, and in half of the texts a
    random part of the words, so that inference on one second or one word is what was trained.
    """

    steps: Positive = 2000
    batch_size: Annotated[int, Field(ge=2)] = 80
    learning_rate: PositiveFloat = 4e-4
    schedule: Literal["constant", "cosine"] = "constant"
    club_learning_rate: PositiveFloat = 1e-3
    club_steps: Positive = 5
    clip_norm: PositiveFloat = 0.5
    crop: tuple[int, int] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    save_every: Positive = 500
    log_every: Positive = 10

    @model_validator(mode="after")
    def _crop_is_a_range(self) -> Self:
        if self.crop is not None and not 1 <= self.crop[0] <= self.crop[1]:
            raise ValueError(f"crop {list(self.crop)} is no range of seconds")
        return self


class Recipe(_Part):
    """One training run. `data` is read by the data set that the recipe is for."""

    name: str
    method: Literal["fcid"] = "fcid"
    model: ModelConfig = ModelConfig()
    codebook: CodebookConfig = CodebookConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    data: dict[str, Any] = {}

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """A recipe of `training/recipes` by name, or any other by path.

        Raises:
            TrainingError: there is no such recipe, or it has an unknown or wrong setting.
        """
        path = RECIPES / f"{name_or_path}.yaml"
        if not path.exists():
            path = Path(name_or_path)
        try:
            document = yaml.safe_load(path.read_text())
        except OSError:
            known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
            raise TrainingError(f"there is no recipe '{name_or_path}'; known by name: {known}") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise TrainingError(f"'{name_or_path}' is not YAML") from None
        return cls.parse(document)

    @classmethod
    def parse(cls, document: object) -> Self:
        """From plain values, as YAML or JSON holds them.

        Raises:
            TrainingError: a setting is unknown or of the wrong type.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                message = "there is no such setting"
            raise TrainingError(f"recipe: {where}: {message}") from None

    def with_training(self, **changes: object) -> Self:
        """The same recipe with other settings of its `training` part."""
        return self.parse({**self.model_dump(), "training": {**self.training.model_dump(), **changes}})
