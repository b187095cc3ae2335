"""What work costs: microseconds of the device, by modality and way in, learnt from the batches that ran."""

from __future__ import annotations

from typing import NamedTuple

from tessera.windows import Modality, Stage

_FADING = 0.98
"""Of what is remembered, at each batch: some fifty batches count."""

_UNKNOWN_MICROS = 1_000.0
"""A segment of what has never run."""


class Cost(NamedTuple):
    """Whole numbers, so that what is taken and given back in parts comes to nothing in the end."""

    micros: int = 0
    bytes: int = 0

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(self.micros + other.micros, self.bytes + other.bytes)

    def minus(self, other: Cost) -> Cost:
        """What is left of it without `other`."""
        return Cost(self.micros - other.micros, self.bytes - other.bytes)

    def times(self, count: int) -> Cost:
        """That of so many."""
        return Cost(self.micros * count, self.bytes * count)


class Costs:
    """Microseconds of a segment: what recent batches took over the segments they held.

    Written by the device's thread, read by others: single numbers, which are whole at any time.
    """

    def __init__(self) -> None:
        self._spent: dict[tuple[Modality, Stage], tuple[float, float]] = {}

    def observe(self, modality: Modality, stage: Stage, segments: int, seconds: float) -> None:
        """Learn from a batch."""
        micros, seen = self._spent.get((modality, stage), (0.0, 0.0))
        self._spent[modality, stage] = (micros * _FADING + seconds * 1e6, seen * _FADING + segments)

    def micros(self, modality: Modality, stage: Stage, segments: int) -> int:
        """What so many segments take, at least one."""
        return max(1, round(segments * self.rate(modality, stage)))

    def rate(self, modality: Modality, stage: Stage) -> float:
        """Microseconds of a segment."""
        micros, seen = self._spent.get((modality, stage), (_UNKNOWN_MICROS, 1.0))
        return micros / seen
