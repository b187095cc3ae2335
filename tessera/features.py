"""A backbone graph on a batch of windows: pictures go through it a few at a time, because they need most memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tessera.buckets import spans
from tessera.runtime import Array, Graph

# The first layers of a VGG19 take 25 MB for a picture of 224 x 224, and a window holds 160 of them.
_PIXELS = 32 * 224 * 224


def segments_at_once(pictures: tuple[int, ...]) -> int:
    """How many segments, each with so many `pictures` of so many rows and columns, go through a backbone in one run."""
    return max(1, _PIXELS // math.prod(pictures))


def separate_segments(frames: Array) -> Array:
    """[windows * time, 1, ...] of `frames` [windows, time, ...].

    A backbone for pictures sees each segment by itself, so it need not know which window it is of.
    """
    return frames.reshape(-1, 1, *frames.shape[2:])


def run_backbone(graph: Graph, batch: Mapping[str, Array]) -> dict[str, Array]:
    """`features` [batch, time, ...] of windows that are stacked in `batch`."""
    frames = batch.get("frames")
    if frames is None:
        return graph.run(batch)
    segments = separate_segments(frames)
    runs = spans(len(segments), segments_at_once(frames.shape[2:5]))
    features = np.concatenate([graph.run({"frames": segments[run]})["features"] for run in runs])
    return {"features": features.reshape(*frames.shape[:2], *features.shape[2:])}
