"""Tasks in which a small head is fitted on the codes of one modality and tested on those of the others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.fitting import Fitting, Vectors, fit_head, scores_of, seeded
from training.evaluation.heads import ClassLoss, ClipHead, EventLoss, SegmentHead
from training.evaluation.metrics import (
    Detection,
    accuracy,
    batch_averaged,
    commonest_class_accuracy,
    constant_guess,
    micro,
)
from training.evaluation.tasks.task import Column, Outcome, Result, Settings, Task

Parts = Mapping[Modality, Selection]

_HELD_OUT = "Fitted and tested on different clips; the last epoch counts."
_PAPER = (
    "As the released scripts do: the epoch with the best figure on the tested clips counts, for each direction by "
    "itself; dropout of the encoder is active while a head is fitted."
)


class HeadTask(Task):
    """Clips for fitting and testing by modality, C classes; `settings` say by which protocol.

    The codes of a clip are computed once. Only by protocol `paper`, where the frozen encoder is in training mode as
    released, every epoch sees them anew under its dropout.

    Raises:
        TrainingError: the data has no targets, or classes beyond `classes`.
    """

    def __init__(
        self,
        name: str,
        fit: Parts,
        test: Parts,
        classes: int,
        settings: Settings,
        released_epochs: Mapping[Column, int],
        note: str = "",
    ) -> None:
        self.name, self.fit, self.test, self.classes = name, fit, test, classes
        self.modalities = tuple(fit)
        self.paper = settings.protocol == "paper"
        self.metric = self.reported(settings.column)
        self.fitting = Fitting(
            epochs=settings.epochs or released_epochs[settings.column],
            precision=torch.float64 if self.paper else torch.float32,
        )
        self.fit_targets = {m: self.targets(part) for m, part in fit.items()}
        self.test_targets = {m: self.targets(part) for m, part in test.items()}
        self.chance = {
            (source, target): self.guess(self.fit_targets[source], self.test_targets[target])
            for source in fit
            for target in test
        }
        self.clips = {
            "fit": max(len(part) for part in fit.values()),
            "test": max(len(part) for part in test.values()),
        }
        self.caption = " ".join(filter(None, [note, _PAPER if self.paper else _HELD_OUT]))

    @abstractmethod
    def reported(self, column: Column) -> str:
        """The figure that the table is about."""

    @abstractmethod
    def targets(self, part: Selection) -> Tensor:
        """What the head is to say, checked."""

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """A fresh head on vectors of `dim` channels."""

    @abstractmethod
    def loss(self) -> nn.Module:
        """A fresh loss."""

    @abstractmethod
    def figures(self, scores: Tensor, targets: Tensor) -> dict[str, float]:
        """Figures by name, `metric` among them."""

    @abstractmethod
    def guess(self, fit: Tensor, test: Tensor) -> float:
        """`metric` of the best guess that sees no codes."""

    def asked_for(self) -> Iterable[tuple[Modality, Selection]]:
        """As `Task` says."""
        return (*self.fit.items(), *self.test.items())

    def score(self, coder: Coder, seeds: int) -> Result:
        """As `Task` says."""
        coded = {m: coder.encode(part, m) for m, part in self.test.items()}
        fixed = {} if self.paper else {m: coder.encode(part, m).vectors for m, part in self.fit.items()}
        outcomes = [self._outcome(coder, fixed, coded, seed) for seed in range(seeds)]
        first, *others = self.test.values()
        paired = all(part.features is first.features for part in others)
        return Result(outcomes, coded, paired, coder.sizes)

    def _outcome(
        self, coder: Coder, fixed: Mapping[Modality, Tensor], coded: Mapping[Modality, Coded], seed: int
    ) -> Outcome:
        figures = {}
        for source in self.fit:
            vectors = _same(fixed[source]) if source in fixed else self._dropping_out(coder, source, seed)
            for target, values in self._fit_and_test(source, vectors, coded, seed).items():
                figures[source, target] = values
        return figures

    def _fit_and_test(
        self, source: Modality, vectors: Vectors, coded: Mapping[Modality, Coded], seed: int
    ) -> dict[Modality, dict[str, float]]:
        """Figures by tested modality: after the last epoch, or by protocol `paper` the best of all epochs."""
        width = next(iter(coded.values())).vectors.shape[-1]
        with seeded(seed):
            head, loss = self.head(width), self.loss()
        best: dict[Modality, dict[str, float]] = {}

        def test() -> None:
            for target, one in coded.items():
                values = self.figures(scores_of(head, one.vectors), self.test_targets[target])
                if target not in best or values[self.metric] > best[target][self.metric]:
                    best[target] = values

        targets = self.fit_targets[source]
        fit_head(head, loss, vectors, targets, self.fitting, seed, test if self.paper else None)
        if not self.paper:
            test()
        return best

    def _dropping_out(self, coder: Coder, source: Modality, seed: int) -> Vectors:
        """The codes of an epoch under the dropout of the encoder; seeds and epochs draw apart."""

        def vectors(epoch: int) -> Tensor:
            return coder.encode(self.fit[source], source, dropout_seed=1_000 * seed + epoch).vectors

        return vectors


class ClassTask(HeadTask):
    """One class a clip: cross entropy and accuracy."""

    def reported(self, column: Column) -> str:
        """As `HeadTask` says."""
        return "accuracy"

    def targets(self, part: Selection) -> Tensor:
        """Classes i64 [N]."""
        labels = part.labels
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= self.classes:
            raise TrainingError(f"{self.name}: every clip needs one of the {self.classes} classes")
        return labels

    def head(self, dim: int) -> nn.Module:
        """As `HeadTask` says."""
        return ClipHead(dim, self.classes)

    def loss(self) -> nn.Module:
        """As `HeadTask` says."""
        return ClassLoss()

    def figures(self, scores: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy over clips."""
        return {"accuracy": accuracy(scores, targets)}

    def guess(self, fit: Tensor, test: Tensor) -> float:
        """The commonest class."""
        return commonest_class_accuracy(fit, test)


class EventTask(HeadTask):
    """Classes of each segment, background one of them: precision, recall and F1 at a probability of one half.

    By protocol `paper` figures are averages over batches, and the scripts of DCID and TOC report and choose by
    precision where `by_precision`.
    """

    by_precision: ClassVar[bool] = False

    def reported(self, column: Column) -> str:
        """As `HeadTask` says."""
        return "precision" if self.paper and self.by_precision and column != "fcid" else "f1"

    def targets(self, part: Selection) -> Tensor:
        """Cells, bool [N, T, C + 1]."""
        cells = part.cells
        if cells.shape[-1] != self.classes + 1:
            raise TrainingError(
                f"{self.name}: segments have {cells.shape[-1]} classes, not {self.classes} + 1"
            )
        return cells

    def head(self, dim: int) -> nn.Module:
        """As `HeadTask` says."""
        return SegmentHead(dim, self.classes + 1)

    def loss(self) -> nn.Module:
        """As `HeadTask` says."""
        return EventLoss(self.classes + 1)

    def figures(self, scores: Tensor, targets: Tensor) -> dict[str, float]:
        """Precision, recall and F1."""
        # The probability is above one half where the score is above zero.
        return self._detected(scores > 0, targets).figures()

    def guess(self, fit: Tensor, test: Tensor) -> float:
        """The classes that are best said of every segment."""
        return self._detected(constant_guess(fit).expand_as(test), test).figures()[self.metric]

    def _detected(self, predicted: Tensor, cells: Tensor) -> Detection:
        return (batch_averaged if self.paper else micro)(predicted, cells)


def _same(vectors: Tensor) -> Vectors:
    return lambda epoch: vectors
