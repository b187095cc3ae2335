"""Backbone and codes graph one after the other; on a GPU the features between them never come to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tessera.buckets import LARGEST, bucket, buckets, filled, spans, whole_spans
from tessera.features import run_backbone, segments_at_once, separate_segments
from tessera.runtime import Array, Graph, Held


class Chain:
    """From windows, or from features where there is no backbone, to codes.

    On a GPU batches are cut and filled to the sizes of `buckets`, so that an answer is exact and shapes are few. On
    the processor they go through as they are.
    """

    def __init__(self, codes: Graph, backbone: Graph | None = None, *, on_device: bool | None = None) -> None:
        """`on_device` is whether to work as on a GPU; None: if the graphs are on one."""
        self._codes = codes
        self._backbone = backbone
        self._on_device = codes.device.is_gpu if on_device is None else on_device

    def run(self, batch: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """`outputs` of the codes graph by name (None: all), a row for each of `batch`.

        Raises:
            BundleError: a graph cannot compute them, as when inputs have other shapes than it takes.
        """
        if not self._on_device:
            batch = batch if self._backbone is None else run_backbone(self._backbone, batch)
            return self._codes.run(batch, outputs)
        rows = len(next(iter(batch.values())))
        parts = [
            self._run_held({name: array[run] for name, array in batch.items()}, outputs)
            for run in spans(rows, LARGEST)
        ]
        return parts[0] if len(parts) == 1 else {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}

    def warm_up(self, batch: Mapping[str, Array]) -> None:
        """Run the windows of `batch`, and on a GPU as many of its first as make every size of batch."""
        self.run(batch)
        if not self._on_device:
            return
        first = {name: array[:1] for name, array in batch.items()}
        if self._backbone is not None and "frames" in batch:
            segment = separate_segments(first["frames"])[:1]
            for size in buckets(segments_at_once(segment.shape[2:5])):
                self._backbone.run({"frames": filled(segment, size)})
        else:
            for size in buckets(LARGEST):
                self.run({name: filled(array, size) for name, array in first.items()})

    def _run_held(self, batch: Mapping[str, Array], outputs: Sequence[str] | None) -> dict[str, Array]:
        if self._backbone is not None and "frames" in batch:
            return self._codes.run(
                {"features": self._held_pictures(self._backbone, batch["frames"])}, outputs
            )
        rows = len(next(iter(batch.values())))
        full = {name: filled(array, bucket(rows)) for name, array in batch.items()}
        found = self._codes.run(full if self._backbone is None else self._backbone.hold(full), outputs)
        return {name: array[:rows] for name, array in found.items()}

    def _held_pictures(self, backbone: Graph, frames: Array) -> Held:
        """Features of windows of pictures. A picture costs too much to be computed and dropped: runs are not filled."""
        segments = separate_segments(frames)
        runs = whole_spans(len(segments), segments_at_once(frames.shape[2:5]))
        return backbone.hold_parts(
            ({"frames": segments[run]} for run in runs), (*frames.shape[:2], *backbone.row_shape)
        )
