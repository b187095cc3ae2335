"""The scores that a model card states, as `tessera evaluate --out` wrote them, checked before anything is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tessera.errors import TrainingError


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Interval(_Part):
    mean: float
    half_width: float | None


class _Clips(_Part):
    fit: int
    test: int


class _Use(_Part):
    size: int
    used: int
    perplexity: float


class _Scores(_Part):
    """What is stated of any scores."""

    seeds: Annotated[list[int], Field(min_length=1)]
    kept_channels: int
    toc_lambda: float


class _Probe(_Scores):
    """The held-out probe of generated data, which the card has tables of."""

    clips: _Clips
    chance: float
    directions: dict[str, _Interval]
    mean: _Interval
    within: dict[str, _Interval]
    codebook: dict[str, _Use]
    agreement: dict[str, float]


def read_scores(path: Path) -> dict[str, Any]:
    """The document in a file of scores.

    Raises:
        TrainingError: it cannot be read, or lacks what a model card needs.
    """
    try:
        data = path.read_bytes()
        scores: dict[str, Any] = json.loads(data)
        (_Probe if "directions" in scores else _Scores).model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise TrainingError(f"'{path}' is no file of scores: {where}: {first['msg']}") from None
    except (OSError, ValueError, TypeError, RecursionError):
        raise TrainingError(f"'{path}' is not a file of scores that can be read") from None
    return scores
