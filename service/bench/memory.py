"""Memory of a server over time, and whether it grows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Self

import numpy as np

from service.bench.server import Server

EVERY_SEC = 0.5
_FLOOR_SEC = 30.0


@dataclass
class MemoryWatch:
    """Samples what `server` holds twice a second, in a thread, while the context lasts: (seconds, MB)."""

    server: Server
    samples: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def document(self) -> dict[str, Any]:
        """The figures, as JSON takes them; the first fifth of the time is warming up and counts for no slope.

        The slope is that of the floor: what requests hold while they are answered comes and goes, a leak stays.
        """
        settled = self.samples[len(self.samples) // 5 :]
        slope, error = slope_per_hour(floor(settled))
        held = [mb for _, mb in self.samples]
        return {
            "first_mb": round(held[0], 1),
            "settled_mb": round(settled[0][1], 1),
            "last_mb": round(held[-1], 1),
            "most_mb": round(max(held), 1),
            "slope_mb_per_hour": round(slope, 2),
            "slope_error_mb_per_hour": round(error, 2),
            "seconds": round(self.samples[-1][0], 1),
        }

    def _watch(self) -> None:
        started = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - started, self.server.memory_mb()))
            if self._done.wait(EVERY_SEC):
                return


def floor(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest of the samples (seconds, value) of each half minute."""
    parts: dict[int, list[tuple[float, float]]] = {}
    for sample in samples:
        parts.setdefault(int(sample[0] // _FLOOR_SEC), []).append(sample)
    return [min(part, key=itemgetter(1)) for part in parts.values()]


def slope_per_hour(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope of the least squares line through (seconds, value), an hour, and its standard error; 0 of too few."""
    if len(samples) < 3:
        return 0.0, 0.0
    seconds, values = np.array(samples).T
    centred = seconds - seconds.mean()
    spread = float(np.sum(centred**2))
    slope = float(np.sum(centred * values)) / spread
    residue = values - values.mean() - slope * centred
    error = float(np.sqrt(np.sum(residue**2) / (len(samples) - 2) / spread))
    return 3600 * slope, 3600 * error
