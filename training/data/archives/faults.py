"""Clips that cannot be used: the first ends a conversion, or all are left out and listed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tessera.errors import TrainingError


class BadClip(TrainingError):
    """One clip is missing, damaged or contradictory; the others are not touched by it."""


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out: where it is listed, and why."""

    where: str
    reason: str


@dataclass
class Faults:
    """Where bad clips go: with `skip` they are collected, without it they end the conversion."""

    skip: bool = False
    skipped: list[Skipped] = field(default_factory=list)

    @contextmanager
    def tolerated(self, where: str) -> Iterator[None]:
        """A block about the clip that is listed at `where`.

        Raises:
            BadClip: the clip is bad, and nothing is to be skipped; `where` stands in front.
        """
        try:
            yield
        except BadClip as fault:
            if not self.skip:
                raise BadClip(f"{where}: {fault}") from None
            self.skipped.append(Skipped(where, str(fault)))

    def csv(self) -> bytes:
        """The list as a table with the columns `clip` and `reason`."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("clip", "reason"))
        writer.writerows((skipped.where, skipped.reason) for skipped in self.skipped)
        return text.getvalue().encode()
