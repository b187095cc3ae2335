"""What an evaluation knows of a task: a coder goes in, figures by direction come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tessera.windows import Modality
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.probe import Direction

Protocol = Literal["held_out", "paper"]
"""`held_out`: clips for fitting and clips for testing are disjoint, and nothing is chosen by the latter. `paper`: as
the released scripts do."""

Column = Literal["dcid", "toc", "fcid"]
"""Whose released settings count where the scripts of the papers differ: H-DCID and SRCID are of the TOC scripts."""

Outcome = Mapping[Direction, Mapping[str, float]]
"""Figures by name for every pair (fitted on, tested on), with one head or probe a modality."""


@dataclass(frozen=True)
class Settings:
    """How a task is run.

    `epochs` of a head (None: as released). `every_slot`: the empty word slots of a stored text count as words, as in
    the training of a model that is so scored.
    """

    protocol: Protocol = "held_out"
    column: Column = "dcid"
    epochs: int | None = None
    every_slot: bool = False


@dataclass(frozen=True)
class Result:
    """What one coder scored in one task."""

    outcomes: list[Outcome]  # one for each head
    coded: Mapping[Modality, Coded]  # the clips for testing
    paired: bool  # whether row i is the same clip in every modality
    sizes: tuple[int, ...]
    nuisance: Mapping[Modality, float] = field(default_factory=dict)


class Task(ABC):
    """One table row of an evaluation: a data set with what is asked of its codes."""

    name: str
    metric: str
    """The figure that the table is about."""
    modalities: tuple[Modality, ...]
    """Those that a coder must know."""
    chance: Mapping[Direction, float]
    """What `metric` is for whoever sees no codes."""
    clips: Mapping[str, int]
    """How many clips are fitted on and tested on."""
    caption: str
    """What a reader of the table has to know."""

    @abstractmethod
    def asked_for(self) -> Iterable[tuple[Modality, Selection]]:
        """All that a coder is to encode: clips, with the modality they are encoded of."""

    @abstractmethod
    def score(self, coder: Coder, seeds: int) -> Result:
        """Score codes; where heads are drawn there is one of each seed from 0 to `seeds` - 1."""
