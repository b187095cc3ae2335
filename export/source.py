"""A checkpoint opened for export: its model, its backbones, the channels that TOC keeps, where it all comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.backbones import ExportedBackbone, open_backbones
from export.choices import checkpoint_choices
from export.graphs import needs_maps
from tessera.errors import TrainingError
from tessera.manifest import AudioSpec, TextSpec, TimeGrid, Toc, VideoSpec
from tessera.windows import MODALITIES, Modality
from training.backbones.choice import Choice
from training.checkpoint import ORIGIN, load_model
from training.config import Recipe
from training.data.generated import GeneratedData
from training.data.sources import counts_every_slot
from training.models.fcid import FCID
from training.models.task import TaskModule
from training.toc import Selection, select


@dataclass(frozen=True)
class Source:
    """All that an export needs of a checkpoint. `selections` are those of TOC, one a quantiser."""

    checkpoint: Path
    model: TaskModule[Any]
    recipe: Recipe
    step: int
    origin: dict[str, Any]
    data: str
    backbones: Mapping[Modality, ExportedBackbone]
    selections: tuple[Selection, ...]
    toc_lambda: float

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the model reads."""
        return tuple(m for m in MODALITIES if m in self.model.modalities)

    @property
    def kept(self) -> tuple[tuple[int, ...], ...]:
        """The kept channels of each quantiser."""
        return tuple(selection.kept for selection in self.selections)

    @property
    def levels(self) -> int:
        """Codes a position, of all quantisers together."""
        return sum(quantizer.levels for quantizer in self.model.levels())

    @property
    def depth(self) -> int:
        """Codes a position of one quantiser."""
        return next(self.model.levels()).levels

    @property
    def clip_codes(self) -> bool:
        """Whether a clip as a whole has codes."""
        return isinstance(self.model, FCID)

    def slots_of(self, modality: Modality) -> int | None:
        """How many word slots the model sees at once, where empty ones count."""
        counts = modality == "text" and counts_every_slot(self.recipe.data)
        return TimeGrid().window_segments if counts else None

    @property
    def toc(self) -> Toc:
        """What TOC made of each codebook."""
        return Toc(
            keep=tuple(len(selection.kept) for selection in self.selections),
            scores=tuple(tuple(map(_short, selection.scores.tolist())) for selection in self.selections),
            **{"lambda": self.toc_lambda},
        )

    def spec(self, modality: Modality) -> AudioSpec | VideoSpec | TextSpec:
        """What the backbone of `modality` takes; of text with the slots that the model sees."""
        spec, slots = self.backbones[modality].spec, self.slots_of(modality)
        return spec if slots is None else spec.model_copy(update={"slots": slots})


def open_source(
    checkpoint: Path,
    keep: Sequence[int] = (),
    toc_lambda: float = 0.3,
    asked: Mapping[Modality, Choice] | None = None,
    backbones: Mapping[Modality, ExportedBackbone] | None = None,
    video_maps: bool = False,
) -> Source:
    """Load a checkpoint. `keep` channels of every quantiser, or of each its own number; none given: all of them.

    The backbones are those `asked` for and those that the checkpoint has by itself, unless `backbones` are given;
    with `video_maps` that for video gives whole maps, even where the codes depend on their means alone.

    Raises:
        TrainingError: the checkpoint cannot be read, a backbone is missing or another than the one that the features
            were made with, or so many channels cannot be kept.
    """
    model, recipe, step = load_model(checkpoint)
    selections = select_all(model, keep, toc_lambda)
    if backbones is None:
        choices = checkpoint_choices(checkpoint, recipe, asked or {})
        backbones = open_backbones(choices, video_maps or needs_maps(model))
    origin = _origin(checkpoint)
    _require_widths(model, recipe, backbones)
    return Source(
        checkpoint=checkpoint,
        model=model,
        recipe=recipe,
        step=step,
        origin=origin,
        data=_data(checkpoint, recipe, origin),
        backbones=backbones,
        selections=selections,
        toc_lambda=toc_lambda,
    )


def select_all(model: TaskModule[Any], keep: Sequence[int], toc_lambda: float) -> tuple[Selection, ...]:
    """What TOC makes of each quantiser's codebook; `keep` as `open_source` takes it.

    Raises:
        TrainingError: so many channels cannot be kept, or there are more or fewer numbers than codebooks.
    """
    tables = [quantizer.table().detach() for quantizer in model.levels()]
    wanted = list(keep) or [table.shape[1] for table in tables]
    if len(wanted) == 1:
        wanted *= len(tables)
    if len(wanted) != len(tables):
        raise TrainingError(
            f"the model has {len(tables)} codebook(s) to choose channels of; {len(wanted)} numbers are given"
        )
    return tuple(
        select(table, number, lambda_=toc_lambda) for table, number in zip(tables, wanted, strict=True)
    )


def _origin(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / ORIGIN
    try:
        origin: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError):
        raise TrainingError(f"'{path}' is damaged") from None
    return origin


def _data(checkpoint: Path, recipe: Recipe, origin: Mapping[str, Any]) -> str:
    """What the model was trained on, as a sentence."""
    if origin:
        return f"The weights are those of the released file `{origin['file']}` ({origin['format']}), cast to float32."
    if "world" in recipe.data:
        return GeneratedData.of(recipe.data).sentence
    try:
        name = json.loads((checkpoint / "data.json").read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return "What it was trained on is not known."
    return f"Trained on the feature store `{name}`."


def _require_widths(
    model: TaskModule[Any], recipe: Recipe, backbones: Mapping[Modality, ExportedBackbone]
) -> None:
    """Raise a TrainingError unless the backbones give features as wide as the model takes them."""
    for modality in model.modalities:
        wanted = getattr(recipe.model, f"{modality}_dim")
        found = backbones[modality].spec.feature_dim
        if found != wanted:
            raise TrainingError(
                f"the model takes {modality} features of {wanted} channels; those of its backbone have {found}"
            )


def _short(score: float) -> float:
    return float(f"{score:.6g}")
