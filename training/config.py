"""A recipe: everything that decides a training run, as one YAML file and as the JSON beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tessera.errors import TrainingError
from tessera.windows import Modality

RECIPES = Path(__file__).parent / "recipes"

Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Part):
    """Widths. The defaults are the published ones of DCID (docs/models.md 1).

    `video_branch` is how the specific half of a picture is seen: `convolutions` over the feature map, as published and
    nearly all of the cost of training, or its spatial `mean` like a vector of sound. First-level codes
    depend on the mean alone.

    `encoder`: transformer layers in the model's `dim` as `published`, or for `canonical` and `dcid` the `canonical`
    ones: a linear map to `dim`, which starts as the `canonical` correlation analysis of the clips or as a `random` map,
    and transformer layers of their own `width` that add to it.
    """

    dim: Positive = 256
    heads: Positive = 4
    feed_forward: Positive = 1024
    layers: Positive = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    audio_dim: Positive = 128
    video_dim: Positive = 512
    video_grid: Annotated[int, Field(ge=5)] = 7
    text_dim: Positive = 768
    squeeze_dim: Positive = 64
    video_branch: Literal["convolutions", "mean"] = "convolutions"
    video_hidden: tuple[Positive, Positive] = (1024, 2048)
    club_video_dim: Positive = 512
    club_hidden: Positive = 128
    encoder: Literal["published", "canonical"] = "published"
    width: Positive = 256
    start: Literal["canonical", "random"] = "canonical"

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        name = "dim" if self.encoder == "published" else "width"
        if getattr(self, name) % self.heads:
            raise ValueError(f"{name} {getattr(self, name)} cannot be shared by {self.heads} heads")
        if self.encoder == "published" and self.dim % 2:
            raise ValueError(f"dim {self.dim} cannot be shared by the two directions of the text LSTM")
        return self


class CodebookConfig(_Part):
    """The alphabet and how it moves.

    `quantizer`: `vq` is one codebook, `residual` are `depth` of them, each on what the one before left over, and
    `fsq` rounds a few channels to `fsq_levels` values each. `partners`: what a vector is mixed with before it moves
    its code (MM-EMA): the vectors of the other modalities `aligned` in time as released, their cross-`attention`
    as the paper says, or `none`, which also leaves the partners out of the commitment loss. `update`: `fused` moves
    the codebook once a step for all modalities, counts starting at one; `paper` one modality after the other, counts
    starting at zero, as released. `start`: k-means of the first batch, or small uniform rows. `reset`: `statistics`
    moves sums and counts of a dead code too; `paper` only its row, which the next step undoes.
    """

    quantizer: Literal["vq", "residual", "fsq"] = "vq"
    size: Annotated[int, Field(ge=2, le=65_536)] = 400
    depth: Annotated[int, Field(ge=1, le=16)] = 4
    fsq_levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 2)
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    commitment: Annotated[float, Field(ge=0)] = 0.25
    partners: Literal["aligned", "attention", "none"] = "aligned"
    update: Literal["fused", "paper"] = "fused"
    start: Literal["kmeans", "uniform"] = "kmeans"
    reset: Literal["statistics", "paper", "none"] = "statistics"
    reset_after: Positive = 300

    @model_validator(mode="after")
    def _rows_are_replaced_where_they_are_kept(self) -> Self:
        if self.reset == "paper" and self.update != "paper":
            raise ValueError("reset 'paper' needs update 'paper': a fused codebook has no rows of its own")
        return self


class LossConfig(_Part):
    """Settings of the losses; `variant` chooses the formulas as intended or as released (docs/models.md 6).

    `weights` go by the names that are logged, or by the beginning of a name up to a slash: `club` is all of
    `club/audio`, `club/video` ..., and the longest beginning decides. A loss that is not listed weighs one, and one of
    weight zero is still computed and logged. `cpc_steps` is how many segments ahead CPC predicts (clips that are not
    longer have no CPC), `cpc_contrast` whether a target is told from other clips' guesses, as released and quicker to
    learn, or a guess is from other clips' targets, as the paper says. `critic`: how models with canonical encoders
    score a pair of segments (training/losses/alignment.py).
    """

    temperature: PositiveFloat = 0.1
    critic: Literal["distance", "cosine"] = "distance"
    variant: Literal["intended", "paper"] = "intended"
    cpc_steps: Positive = 1
    cpc_contrast: Literal["guesses", "targets"] = "guesses"
    weights: dict[str, float] = {}


class WarmStart(_Part):
    """When the losses of a second level begin: after `steps`; with `mi_below`, not before CLUB of the first level
    has fallen below that share of the highest it has been.
    """

    steps: Annotated[int, Field(ge=0)]
    mi_below: Annotated[float, Field(gt=0, lt=1)] | None = None


class TrainingConfig(_Part):
    """The optimisation.

    `batch_size` is the whole batch, shared by all processes. `precision`: `bfloat16` computes in bfloat16 where that
    is safe and keeps weights and codebook in float32; `float64` is as released. `accumulate` splits a batch into
    that many parts, one after the other, each of which moves the codebook. `encodes`: `once` a step, or `each` time
    that an auxiliary net is trained too, as published at first. `crop`: each step sees a random stretch of that many
    seconds of sound and picture, and in half of the texts a random part of the words, so that inference on one
    second or one word is what was trained.
    """

    steps: Positive = 2000
    batch_size: Annotated[int, Field(ge=2)] = 80
    accumulate: Positive = 1
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    learning_rate: PositiveFloat = 4e-4
    schedule: Literal["constant", "cosine"] = "constant"
    club_learning_rate: PositiveFloat = 1e-3
    club_steps: Positive = 5
    encodes: Literal["once", "each"] = "once"
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

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} clips cannot be taken in {self.accumulate} parts")
        return self


Method = Literal["dcid", "hdcid", "srcid", "fcid", "vq", "cmcm", "canonical"]


class Recipe(_Part):
    """One training run. `data` is read by the data set that the recipe is for.

    `modalities`: what the method unifies; all three, or two of them. `half`: of FCID with two modalities, its `fine`
    (audio and video) or its `coarse` half alone. `warm_start`: of methods with two levels.
    """

    name: str
    method: Method = "fcid"
    modalities: tuple[Modality, ...] = ("audio", "video", "text")
    half: Literal["fine", "coarse"] | None = None
    warm_start: WarmStart | None = None
    model: ModelConfig = ModelConfig()
    codebook: CodebookConfig = CodebookConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    data: dict[str, Any] = {}

    @model_validator(mode="after")
    def _the_method_is_complete(self) -> Self:
        if len(self.modalities) < 2 or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities {list(self.modalities)} are not two or three different ones")
        if (self.warm_start is not None) != (self.method in ("hdcid", "srcid")):
            raise ValueError(f"method '{self.method}': warm_start is for hdcid and srcid, which need it")
        if self.warm_start and (self.warm_start.mi_below is not None) != (self.method == "srcid"):
            raise ValueError("warm_start.mi_below is for srcid, which needs it")
        if self.method == "canonical" and self.codebook.quantizer == "fsq":
            raise ValueError("method 'canonical' has no loss that trains fsq: take vq or residual")
        if self.method in ("vq", "cmcm", "canonical") and self.codebook.partners != "none":
            raise ValueError(f"method '{self.method}' needs codebook.partners 'none': it has no MM-EMA")
        canonical = self.model.encoder == "canonical"
        if canonical != (self.method == "canonical") and self.method != "dcid":
            raise ValueError("model.encoder 'canonical' is for canonical, which needs it, and dcid")
        if self.half is not None and (self.method != "fcid" or len(self.modalities) != 2):
            raise ValueError("half is for fcid with two modalities")
        if self.method == "fcid" and len(self.modalities) == 2 and self.half is None:
            raise ValueError("fcid with two modalities needs half: fine or coarse")
        if self.half == "fine" and set(self.modalities) != {"audio", "video"}:
            raise ValueError("the fine half of fcid is for audio and video")
        return self

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """A recipe of `training/recipes` by name, or any other by path; `base` names the recipe it changes.

        Raises:
            TrainingError: there is no such recipe, or it has an unknown or wrong setting.
        """
        return cls.parse(_read(name_or_path, Path(), ()))

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

    def with_data(self, data: Mapping[str, Any]) -> Self:
        """The same recipe on other data."""
        return self.parse({**self.model_dump(), "data": dict(data)})


def weight_of(name: str, weights: Mapping[str, float]) -> float:
    """The weight of the loss `name`: that of the longest beginning up to a slash which `weights` lists, else one."""
    parts = name.split("/")
    beginnings = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((weights[b] for b in beginnings if b in weights), 1.0)


def recipe_names() -> list[str]:
    """Every recipe that comes with Tessera."""
    return sorted(str(path.relative_to(RECIPES).with_suffix("")) for path in RECIPES.rglob("*.yaml"))


def _read(name_or_path: str, folder: Path, seen: tuple[Path, ...]) -> object:
    """The document of a recipe, laid over that of its base; a base is a name, or a path from the recipe's folder."""
    path = RECIPES / f"{name_or_path}.yaml"
    if not path.exists():
        path = folder / name_or_path
    try:
        document = yaml.safe_load(path.read_text())
    except OSError:
        raise TrainingError(
            f"there is no recipe '{name_or_path}'; known: {', '.join(recipe_names())}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise TrainingError(f"'{name_or_path}' is not YAML") from None
    if not isinstance(document, dict) or "base" not in document:
        return document
    base = str(document.pop("base"))
    if path in seen:
        raise TrainingError(f"the recipe '{name_or_path}' is a base of itself")
    below = _read(base, path.parent, (*seen, path))
    return merged(below, document) if isinstance(below, dict) else below


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, part by part."""
    both = {
        name: merged(below[name], above[name])
        for name in below.keys() & above.keys()
        if isinstance(below[name], dict) and isinstance(above[name], dict)
    }
    return {**below, **above, **both}
