"""The figures of a run by step: a file that grows by one JSON line a logged step, and the same in memory."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console

from training.files import write_whole

METRICS = "metrics.jsonl"
SECONDS = "seconds_per_step"


@dataclass(frozen=True)
class Series:
    """One figure over time: finite values at ascending steps. It may begin later than others, and pause."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values [N], as copies."""
        return np.array(self.steps, np.int64), np.array(self.values, np.float64)


class History:
    """What a run logs. Step n is the state after n steps, as in the names of checkpoints.

    One process of a run keeps it. Where it cannot be written, `console` is told once and training goes on: a run
    must not go on without its checkpoints, but it may without its log.
    """

    def __init__(self, run: Path, *, steps_done: int, console: Console) -> None:
        """Go on with the history of `run` after `steps_done` steps: later lines and half lines are dropped."""
        self.path = run / METRICS
        self.series: dict[str, Series] = {}
        self._console = console
        self._warned = self._torn = False
        self._last = (steps_done, time.monotonic())
        kept = []
        try:
            for line, row in _rows(self.path):
                if row["step"] <= steps_done:
                    kept.append(line)
                    _add(self.series, row)
            write_whole(self.path, b"".join(kept))
        except OSError:
            self._warn()

    def append(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the `figures` of a later step, and the seconds that a step has taken since the last one."""
        now = time.monotonic()
        before, then = self._last
        self._last = (step, now)
        row = {"step": step, SECONDS: (now - then) / (step - before), **figures}
        _add(self.series, row)
        line = orjson.dumps(row) + b"\n"
        try:
            # Opened anew, so that a kill finds nothing in a buffer. What a full disk cut off is ended first.
            with self.path.open("ab") as file:
                file.write(b"\n" + line if self._torn else line)
            self._torn = False
        except OSError:
            self._torn = True
            self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._console.print(f"'{self.path}' cannot be written; training goes on", style="yellow")
        self._warned = True


def read_history(run: Path) -> dict[str, Series]:
    """The figures of `run` by name, while it is being made too; none where nothing was logged."""
    series: dict[str, Series] = {}
    for _, row in _rows(run / METRICS):
        _add(series, row)
    return series


def _add(series: dict[str, Series], row: Mapping[str, float | None]) -> None:
    step = row["step"]
    assert isinstance(step, int)
    for name, value in row.items():
        if name != "step" and value is not None and math.isfinite(value):
            one = series.setdefault(name, Series())
            one.steps.append(step)
            one.values.append(value)


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a file of metrics and what they say, steps ascending."""
    if not path.exists():
        return
    last = -1
    with path.open("rb") as file:
        for line in file:
            row = _parsed(line)
            if row is not None and row["step"] > last:
                last = row["step"]
                yield line, row


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a line says; None of one that a kill or a full disk cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return row if all(isinstance(value, int | float | None) for value in row.values()) else None
