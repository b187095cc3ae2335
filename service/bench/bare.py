"""The bare loop: ONNX Runtime on stacked windows and nothing else, at the batch size that suits it best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from tessera.bundle import Bundle
from tessera.windows import Window

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


def best_rate(bundle: Bundle, windows: Sequence[Window], seconds: float) -> tuple[float, int]:
    """Windows a second through the graphs, and the batch size that reached it; `seconds` over all sizes."""
    sessions = _sessions(bundle, windows[0])
    rates = {size: _rate(sessions, windows[0], size, seconds / len(BATCH_SIZES)) for size in BATCH_SIZES}
    best = max(rates, key=rates.__getitem__)
    return rates[best], best


def _sessions(bundle: Bundle, window: Window) -> list[ort.InferenceSession]:
    names = [f"{window.modality}.codes"]
    if window.stage == "media":
        names.insert(0, f"{window.modality}.backbone")
    return [ort.InferenceSession(bundle.graph(name), providers=["CPUExecutionProvider"]) for name in names]


def _rate(sessions: Sequence[ort.InferenceSession], window: Window, size: int, seconds: float) -> float:
    batch = {name: np.stack([array] * size) for name, array in window.inputs.items()}
    _run(sessions, batch)
    runs, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        _run(sessions, batch)
        runs += 1
    return runs * size / elapsed


def _run(sessions: Sequence[ort.InferenceSession], batch: Mapping[str, Any]) -> None:
    values: Mapping[str, Any] = batch
    for session in sessions:
        outputs = session.run(None, dict(values))
        values = {"features": outputs[0]}
