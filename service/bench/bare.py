"""The bare loop: ONNX Runtime on stacked windows and nothing else, at the batch size that suits it best."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

import numpy as np
import onnxruntime as ort

from tessera.bundle import Bundle
from tessera.runtime import Graph
from tessera.windows import Window

BATCH_SIZES = (1, 2, 4, 8, 16, 32)

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def best_rate(bundle: Bundle, windows: Sequence[Window], seconds: float) -> tuple[float, int]:
    """Windows a second through the graphs, and the batch size that reached it; within `seconds`."""
    loop = BareLoop(bundle, windows[0])
    size = loop.best_size(seconds / 2)
    return loop.rate(size, seconds / 2), size


class BareLoop:
    """The graphs that one window goes through, in sessions of their own."""

    def __init__(self, bundle: Bundle, window: Window) -> None:
        self._window = window
        names = [f"{window.modality}.codes"]
        if window.stage == "media":
            names.insert(0, f"{window.modality}.backbone")
        graphs = [bundle.graph(name) for name in names]
        # Threads that spin are sooner at work where a core is free, and in each other's way where none is.
        spinning = [_session(graph) for graph in graphs]
        self._waiting = [Graph(graph).run for graph in graphs]
        self._both = (spinning, self._waiting)

    def best_size(self, seconds: float) -> int:
        """The batch size that suits the graphs best, of those whose batch takes less than half of `seconds`."""
        rates: dict[int, float] = {}
        for size in BATCH_SIZES:
            rates[size] = self.rate(size, seconds / len(BATCH_SIZES))
            if 2 * size / rates[size] > seconds:
                break
        return max(rates, key=rates.__getitem__)

    def rate(self, size: int, seconds: float) -> float:
        """Windows a second in batches of `size`, of the sessions that are faster."""
        batch = self._batch(size)
        return max(size / mean(_spent(graphs, batch, seconds / 2)) for graphs in self._both)

    def alone_sec(self, seconds: float) -> float:
        """Seconds of one window alone, the median, of the sessions that are faster."""
        batch = self._batch(1)
        return min(median(_spent(graphs, batch, seconds / 2)) for graphs in self._both)

    def cpu_sec(self, size: int, seconds: float) -> float:
        """Processor seconds of one window, of sessions as they are served: none of it is spent on waiting."""
        batch = self._batch(size)
        _run(self._waiting, batch)
        started = time.process_time()
        runs = len(_spent(self._waiting, batch, seconds)) + 1
        return (time.process_time() - started) / (runs * size)

    def _batch(self, size: int) -> dict[str, Any]:
        return {name: np.stack([array] * size) for name, array in self._window.inputs.items()}


def _session(graph: bytes) -> Run:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"features": session.run(None, inputs)[0]}

    return run


def _spent(graphs: Sequence[Run], batch: Mapping[str, Any], seconds: float) -> list[float]:
    """Seconds of each run, at least one, behind one that is not counted."""
    _run(graphs, batch)
    spent: list[float] = []
    until = time.perf_counter() + seconds
    while not spent or time.perf_counter() < until:
        started = time.perf_counter()
        _run(graphs, batch)
        spent.append(time.perf_counter() - started)
    return spent


def _run(graphs: Sequence[Run], batch: Mapping[str, Any]) -> None:
    for graph in graphs:
        batch = graph(batch)
