"""The shapes that TensorRT builds engines for: from one window to the largest batch of the longest windows."""

from __future__ import annotations

from tessera.buckets import LARGEST, buckets
from tessera.features import segments_at_once
from tessera.manifest import Manifest
from tessera.providers import Options

_LIKELY_WINDOWS = 8
_LIKELY_TOKENS, _MOST_TOKENS = 32, 512


def shape_profile(manifest: Manifest, name: str) -> Options:
    """The options of the TensorRT provider for graph `name` (`audio.backbone` ...): its range of shapes.

    Windows of text with more than 512 tokens are beyond it, and fail.
    """
    window = manifest.time_grid.window_segments
    least = {"batch": 1, "time": 1, "tokens": 1}
    likely = {"batch": _LIKELY_WINDOWS, "time": window, "tokens": _LIKELY_TOKENS}
    most = {"batch": LARGEST, "time": window, "tokens": _MOST_TOKENS}
    if name == "video.backbone" and manifest.video is not None:
        spec = manifest.video
        segments = buckets(segments_at_once((spec.frames_per_segment, spec.height, spec.width)))[-1]
        likely = most = {"batch": segments, "time": 1}
    inputs = manifest.graphs[name].inputs
    return {
        f"trt_profile_{bound}_shapes": ",".join(
            f"{spec.name}:{'x'.join(map(str, spec.sized(**axes)))}" for spec in inputs
        )
        for bound, axes in (("min", least), ("opt", likely), ("max", most))
    }
