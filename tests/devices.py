"""Which devices are truly there: providers that ONNX Runtime lists may not work."""

from __future__ import annotations

import functools

from tessera.bundle import DEMO, Bundle
from tessera.errors import RuntimeUnavailable
from tessera.runtime import Graph


@functools.cache
def is_active(device: str) -> bool:
    """Whether a graph runs on it."""
    try:
        Graph(Bundle.load(DEMO).graph("text.codes"), device)
    except RuntimeUnavailable:
        return False
    return True
