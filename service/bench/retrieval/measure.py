"""Times of queries, one at a time and 32 at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32
TOP = 10

Search = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""The best scores [n, TOP] for queries [n, Q]."""


def measure(search: Search, queries: NDArray[np.float64], seconds: float) -> dict[str, Any]:
    """Milliseconds of a single query, and queries a second in batches, each measured for `seconds`."""
    search(queries[:2])
    alone = _times(search, queries, 1, seconds)
    together = _times(search, queries, BATCH, seconds)
    return {
        "p50_ms": round(float(np.median(alone)) * 1e3, 4),
        "p99_ms": round(float(np.quantile(alone, 0.99)) * 1e3, 4),
        "queries_per_second": round(len(alone) / float(np.sum(alone)), 1),
        "batch_queries_per_second": round(BATCH * len(together) / float(np.sum(together)), 1),
    }


def _times(search: Search, queries: NDArray[np.float64], size: int, seconds: float) -> list[float]:
    times, first = list[float](), 0
    until = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        some = queries[np.arange(first, first + size) % len(queries)]
        started = time.perf_counter()
        search(some)
        times.append(time.perf_counter() - started)
        first += size
    return times
