"""What a run leaves to be read: metrics.jsonl, TensorBoard logs and report.html; the first process alone writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from training.config import Recipe
from training.distributed import rank
from training.history import History
from training.plots.report import write_report

_REPORT_SECONDS = 30.0
"""A report takes up to a second: it is drawn this often, and at the end."""


class Journal:
    """The logs of `run`, begun anew or gone on with after `steps_done` steps."""

    def __init__(self, run: Path, recipe: Recipe, steps_done: int, console: Console) -> None:
        self.run, self.recipe, self.console = run, recipe, console
        self.writes = rank() == 0
        self.drawn = time.monotonic()
        if self.writes:
            self.board = SummaryWriter(str(run / "logs"), purge_step=steps_done + 1)
            self.history = History(run, steps_done=steps_done, console=console)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of the state after `step` steps."""
        if self.writes:
            self.history.append(step, figures)
            # As with the history: a disk that is full of something else must not end a run.
            with suppress(OSError):
                for name, value in figures.items():
                    self.board.add_scalar(name, value, step)

    def report(self) -> None:
        """Draw everything that was logged so far, unless that was done a moment ago."""
        if self.writes and time.monotonic() - self.drawn > _REPORT_SECONDS:
            self._draw()

    def _draw(self) -> None:
        write_report(self.run, self.history.series, self.recipe, self.console)
        self.drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writes:
            with suppress(OSError):
                self.board.close()
            self._draw()
