"""A cell of a table for one seed: a model or a control, fitted, and scored on held-out clips."""

from __future__ import annotations

import hashlib
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from training.checkpoint import load_model
from training.config import Recipe
from training.data.features import FeatureSet
from training.data.sources import open_source
from training.evaluation.coder import Coder, ModelCoder
from training.evaluation.controls import correlated_kmeans, unaligned_kmeans
from training.evaluation.health import codebook_health
from training.models.catalogue import build_model
from training.randomness import seed_everything
from training.results.exam import Exam, open_exam, oracle_of
from training.trainer import train

Document = dict[str, Any]
Control = Literal["unaligned k-means", "linear CCA + k-means"]
LINEAR: Control = "linear CCA + k-means"
_CONTROLS: dict[Control, Callable[[FeatureSet, int, int, int], Coder]] = {
    "unaligned k-means": unaligned_kmeans,
    LINEAR: correlated_kmeans,
}


class Job(ABC):
    """One setting, one row, one seed. Jobs travel to other processes."""

    setting: str
    row: str
    seed: int

    @property
    def kept(self) -> int | None:
        """Channels that TOC keeps, where it is used."""
        return None

    @property
    @abstractmethod
    def settings(self) -> Document:
        """Everything that decides the result."""

    @abstractmethod
    def make(self, folder: Path, cache: Path) -> Document:
        """Fit and score; what takes long is kept in `folder`, so that a stopped job goes on.

        Raises:
            TrainingError: it cannot be trained, or was stopped.
        """

    @property
    def key(self) -> str:
        """Its name: a function of everything that decides it."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        words = re.sub(r"\W+", "-", f"{self.setting} {self.row} {self.seed}").strip("-")
        return f"{words}-{digest}"

    def folder(self, runs: Path) -> Path:
        """Where what it has made is kept until it is done."""
        return runs / self.key


@dataclass(frozen=True)
class TrainingJob(Job):
    """A recipe, its seed included, scored on all channels and on the `keep` that TOC chooses."""

    setting: str
    row: str
    recipe: Recipe
    keep: int

    @property
    def seed(self) -> int:  # type: ignore[override]
        """Of the training."""
        return self.recipe.training.seed

    @property
    def kept(self) -> int:
        """As `keep` says."""
        return self.keep

    @property
    def settings(self) -> Document:
        """The recipe, and what is kept."""
        return {"recipe": self.recipe.model_dump(mode="json"), "keep": self.keep}

    def make(self, folder: Path, cache: Path) -> Document:
        """Train, and score twice; how long it took is not known of a training that was stopped in between."""
        exam = open_exam(self.recipe.data, cache)
        resumed = any(folder.glob("step-*"))
        started = time.process_time()
        model = load_model(self._trained(folder, cache, resumed))[0]
        seconds = time.process_time() - started
        return {
            "seconds": None if resumed else seconds,
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "all": _score(exam, ModelCoder(model)),
            "toc": _score(exam, ModelCoder(model, self.keep)),
        }

    def _trained(self, folder: Path, cache: Path, resumed: bool) -> Path:
        source = open_source(self.recipe.data)
        seed_everything(self.seed)
        return train(
            build_model(self.recipe),
            source.training_clips(cache),
            self.recipe,
            folder,
            resume=resumed,
            extra_files=source.files(),
            console=Console(quiet=True),
        )


@dataclass(frozen=True)
class ControlJob(Job):
    """A control on the clips of a recipe's `data`."""

    setting: str
    row: str
    seed: int
    control: Control
    dims: int
    codes: int
    data: Mapping[str, Any]

    @property
    def settings(self) -> Document:
        """The data, and the control's sizes."""
        return {"control": self.control, "dims": self.dims, "codes": self.codes, "data": dict(self.data)}

    def make(self, folder: Path, cache: Path) -> Document:
        """Fit, and score."""
        exam = open_exam(self.data, cache)
        started = time.process_time()
        coder = _CONTROLS[self.control](exam.train, self.codes, self.dims, self.seed)
        seconds = time.process_time() - started
        return {
            "seconds": seconds,
            "parameters": 0,
            "oracle": oracle_of(self.data),
            "all": _score(exam, coder),
        }


def _score(exam: Exam, coder: Coder) -> Document:
    result = exam.task.score(coder, 1)
    accuracies = {pair: figures[exam.task.metric] for pair, figures in result.outcomes[0].items()}
    health = codebook_health(result.coded, result.sizes)
    return {
        "directions": {f"{a} -> {b}": value for (a, b), value in accuracies.items() if a != b},
        "within": {a: value for (a, b), value in accuracies.items() if a == b},
        "nuisance": dict(result.nuisance),
        "perplexity": {name: figures["perplexity"] for name, figures in health.items()},
        "chance": exam.task.chance[next(iter(accuracies))],
    }
