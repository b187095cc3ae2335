"""A backbone graph in parts is the backbone graph."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.bundle import DEMO, Bundle
from tessera.features import run_backbone
from tessera.runtime import Graph


@pytest.mark.parametrize("pixels", [1, 4 * 112 * 112, 10**9])
def test_pictures_in_parts(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    """One segment at a time, one by its size, all at once."""
    graph = Graph(Bundle.load(DEMO).graph("video.backbone"))
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 112, 112, 3), np.uint8)
    monkeypatch.setattr("tessera.features._PIXELS", pixels)
    found = run_backbone(graph, {"frames": frames})["features"]
    assert np.array_equal(found, graph.run({"frames": frames})["features"])
