"""The formats of released files, and how one is told from its keys and shapes (docs/models.md 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.config import Recipe
from training.models.catalogue import build_model
from training.released.archive import ENCODER, TEXT_LSTM, ReleasedFile
from training.released.keys import Rules, dcid_rules, dead_part, fcid_rules, hdcid_rules, official_name

Family = Literal["dcid", "micu", "hdcid", "fcid"]

_LEAST_IN_COMMON = 0.5


@dataclass(frozen=True)
class Format:
    """One kind of file: `tensors` in its encoder, and the recipe of the paper that it comes from."""

    family: Family
    name: str
    modalities: tuple[Modality, ...]
    tensors: int
    recipe: str
    rules: Rules

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(self.modalities[:-1])} and {self.modalities[-1]}"

    def recipe_for(self, tensors: Mapping[str, Tensor]) -> Recipe:
        """The paper's recipe, with as many codes as the codebook in `tensors` has."""
        recipe = Recipe.load(self.recipe)
        sizes = [len(table) for name, table in tensors.items() if _is_table(name) and table.dim() == 2]
        if not sizes:
            return recipe
        document = recipe.model_dump()
        return Recipe.parse({**document, "codebook": {**document["codebook"], "size": sizes[0]}})


_ALL: tuple[Modality, ...] = ("audio", "video", "text")
_AV: tuple[Modality, ...] = ("audio", "video")
_AT: tuple[Modality, ...] = ("audio", "text")

DCID = Format("dcid", "DCID", _ALL, 142, "dcid-paper", dcid_rules(_ALL))
FORMATS = (
    DCID,
    Format("dcid", "DCID", _AV, 102, "dcid-av-paper", dcid_rules(_AV)),
    Format("dcid", "DCID", _AT, 84, "dcid-at-paper", dcid_rules(_AT)),
    Format("micu", "MICU", _ALL, 142, "dcid-paper", dcid_rules(_ALL)),
    Format("hdcid", "H-DCID", _ALL, 262, "hdcid-paper", hdcid_rules(_ALL)),
    Format("fcid", "FCID", _ALL, 116, "fcid-paper", fcid_rules(_ALL)),
)


@dataclass(frozen=True)
class Match:
    """A file that has been found to be complete: `names` are those of its tensors by ours."""

    format: Format
    recipe: Recipe
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]


def identify(file: ReleasedFile, family: Family | None = None) -> Match:
    """Find out which format a file has, and that nothing in it is missing, foreign or of a wrong shape.

    Whole modules that the model has no use for are passed over. MICU has the keys of DCID: a file is one of MICU
    only where `family` says so.

    Raises:
        TrainingError: it has no known format, or not that of `family`, or is not complete.
    """
    tensors = _by_level(file.tensors)
    format_ = _nearest(file.name, tensors, family)
    recipe = format_.recipe_for(tensors)
    modules = file.modules() | {ENCODER, TEXT_LSTM}
    ours = _our_tensors(recipe)
    names = {name: official_name(name, format_.rules) for name in ours}
    held = {name: theirs for name, theirs in names.items() if theirs and _module(theirs) in modules}
    _require_complete(
        file.name, format_, tensors, {theirs: ours[name].shape for name, theirs in held.items()}
    )
    return Match(format_, recipe, tensors, held)


def _nearest(name: str, tensors: Mapping[str, Tensor], family: Family | None) -> Format:
    """The format that has most names in common with the encoder of a file; of equals that of `family`, or the first."""
    found = {key for key in tensors if _module(key) == ENCODER and not dead_part(key)}

    def likeness(format_: Format) -> tuple[float, bool]:
        return _share(found, _encoder_names(format_, tensors)), format_.family == family

    best = max(FORMATS, key=likeness)
    if likeness(best)[0] < _LEAST_IN_COMMON:
        known = "; ".join(f"{format_} ({format_.tensors} tensors)" for format_ in FORMATS)
        example = f", such as '{min(found)}'" if found else ""
        raise TrainingError(
            f"'{name}' has no known format: its encoder has {len(found)} tensors{example}. Known are: {known}"
        )
    if family not in (None, best.family):
        raise TrainingError(f"'{name}' is {best}, expected a file of family '{family}'")
    return best


def _encoder_names(format_: Format, tensors: Mapping[str, Tensor]) -> set[str]:
    names = (official_name(name, format_.rules) for name in _our_tensors(format_.recipe_for(tensors)))
    return {name for name in names if name and _module(name) == ENCODER}


def _our_tensors(recipe: Recipe) -> Mapping[str, Tensor]:
    """The tensors of the model of `recipe`, without their values."""
    with torch.device("meta"):
        return build_model(recipe).state_dict()


def _share(one: Collection[str], other: Collection[str]) -> float:
    """Of all names how many both have."""
    both = set(one) & set(other)
    return len(both) / (len(one) + len(other) - len(both))


def _module(name: str) -> str:
    return name.partition("/")[0]


def _is_table(name: str) -> bool:
    return name.partition("[")[0].endswith(".embedding")


def _by_level(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """H-DCID has one tensor for the codebooks of all its levels, [2, K, D]: name each part by its level."""
    stacked = {
        name.removesuffix("embedding") for name, t in tensors.items() if _is_table(name) and t.dim() == 3
    }
    parts: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() > 0 and any(name.startswith(codebook) for codebook in stacked):
            parts |= {f"{name}[{level}]": part for level, part in enumerate(tensor)}
        else:
            parts[name] = tensor
    return parts


def _require_complete(
    name: str, format_: Format, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> None:
    """Raise a TrainingError unless the modules of `shapes` are there in full, and hold nothing else that counts."""
    fault = f"'{name}' looks like {format_}"
    if any(_module(theirs) == TEXT_LSTM for theirs in shapes) and not any(
        _module(t) == TEXT_LSTM for t in tensors
    ):
        raise TrainingError(f"{fault}, but has no '{TEXT_LSTM}', without which it cannot read text")
    if missing := shapes.keys() - tensors:
        raise TrainingError(f"{fault}, but lacks {_some(missing)}")
    for theirs, shape in shapes.items():
        if tensors[theirs].shape != shape:
            found = f"{list(tensors[theirs].shape)}, expected {list(shape)}"
            raise TrainingError(f"{fault}, but '{theirs}' is {found}")
    used = {_module(theirs) for theirs in shapes}
    if foreign := {t for t in tensors.keys() - shapes if _module(t) in used and not dead_part(t)}:
        raise TrainingError(f"{fault}, but also holds {_some(foreign)}")


def _some(names: Collection[str]) -> str:
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"'{min(names)}'{rest}"
