"""A backbone graph on a batch of windows: pictures go through it a few at a time, because they need most memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tessera.runtime import Graph

# The first layers of a VGG19 take 25 MB for a picture of 224 x 224, and a window holds 160 of them.
_PIXELS = 32 * 224 * 224


def run_backbone(graph: Graph, batch: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """`features` [batch, time, ...] of windows that are stacked in `batch`."""
    frames = batch.get("frames")
    if frames is None:
        return graph.run(batch)
    windows, time, *picture = frames.shape
    # A backbone for pictures sees each segment by itself, so it need not know which window it is of.
    segments = frames.reshape(windows * time, 1, *picture)
    size = max(1, _PIXELS // math.prod(picture[:3]))
    parts = [graph.run({"frames": segments[i : i + size]})["features"] for i in range(0, len(segments), size)]
    features = np.concatenate(parts)
    return {"features": features.reshape(windows, time, *features.shape[2:])}
