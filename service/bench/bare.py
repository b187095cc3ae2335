"""The bare loop: ONNX Runtime on stacked windows and nothing else, at the batch size that suits it best."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from tessera.bundle import Bundle
from tessera.runtime import Graph
from tessera.windows import Window

BATCH_SIZES = (1, 2, 4, 8, 16, 32)

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Bare:
    """What the graphs reach with batches of `batch_size` windows: windows a second, and seconds of one window alone."""

    batch_size: int
    rate: float
    alone_sec: float


def best_rate(bundle: Bundle, windows: Sequence[Window], seconds: float) -> tuple[float, int]:
    """Windows a second through the graphs, and the batch size that reached it; `seconds` over all sizes."""
    loop = BareLoop(bundle, windows[0])
    rates = {size: loop.rate(size, seconds / len(BATCH_SIZES)) for size in BATCH_SIZES}
    best = max(rates, key=rates.__getitem__)
    return rates[best], best


class BareLoop:
    """The graphs that one window goes through, in sessions of their own."""

    def __init__(self, bundle: Bundle, window: Window) -> None:
        self._window = window
        names = [f"{window.modality}.codes"]
        if window.stage == "media":
            names.insert(0, f"{window.modality}.backbone")
        graphs = [bundle.graph(name) for name in names]
        # Threads that spin are sooner at work where a core is free, and in each other's way where none is.
        self._spinning = [_session(graph) for graph in graphs]
        self._waiting = [Graph(graph).run for graph in graphs]

    def best(self, seconds: float) -> Bare:
        """Try all batch sizes for half of `seconds`, and measure the best of them for the other half."""
        rates = {size: self.rate(size, seconds / 2 / len(BATCH_SIZES)) for size in BATCH_SIZES}
        size = max(rates, key=rates.__getitem__)
        return Bare(size, self.rate(size, seconds / 2), 1 / rates[1])

    def rate(self, size: int, seconds: float) -> float:
        """Windows a second in batches of `size`, of the sessions that are faster."""
        batch = self._batch(size)
        return max(_rate(graphs, batch, seconds / 2) * size for graphs in (self._spinning, self._waiting))

    def cpu_sec(self, size: int, seconds: float) -> float:
        """Processor seconds of one window, of sessions as they are served: none of it is spent on waiting."""
        batch = self._batch(size)
        _run(self._waiting, batch)
        started = time.process_time()
        runs, _ = _repeat(self._waiting, batch, seconds)
        return (time.process_time() - started) / (runs * size)

    def _batch(self, size: int) -> dict[str, Any]:
        return {name: np.stack([array] * size) for name, array in self._window.inputs.items()}


def _session(graph: bytes) -> Run:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"features": session.run(None, inputs)[0]}

    return run


def _rate(graphs: Sequence[Run], batch: Mapping[str, Any], seconds: float) -> float:
    """Batches a second."""
    _run(graphs, batch)
    runs, elapsed = _repeat(graphs, batch, seconds)
    return runs / elapsed


def _repeat(graphs: Sequence[Run], batch: Mapping[str, Any], seconds: float) -> tuple[int, float]:
    """Runs, at least one, and the seconds they took."""
    runs, started = 0, time.perf_counter()
    while True:
        _run(graphs, batch)
        runs += 1
        if (elapsed := time.perf_counter() - started) >= seconds:
            return runs, elapsed


def _run(graphs: Sequence[Run], batch: Mapping[str, Any]) -> None:
    for graph in graphs:
        batch = graph(batch)
