"""One look at a world: three moments of a clip of every event, as a single picture."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from training.data.world import EVENTS, World

_COLUMNS, _MOMENTS, _SIZE, _GAP = 4, 3, 64, 6


def write_contact_sheet(path: Path, world: World) -> None:
    """Write a PNG of all events in the order of `EVENTS`, four a row, three moments each."""
    clips = [world.clip("test", index) for index in range(len(EVENTS))]
    strips = [
        _strip(clip.frames(1, _SIZE, _SIZE)[:, 0]) for clip in sorted(clips, key=lambda clip: clip.label)
    ]
    rows = [np.concatenate(strips[i : i + _COLUMNS], axis=1) for i in range(0, len(strips), _COLUMNS)]
    with av.open(str(path), "w", format="image2") as container:
        sheet = av.VideoFrame.from_ndarray(np.concatenate(rows), format="rgb24")
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = sheet.width, sheet.height, "rgb24"
        container.mux([*stream.encode(sheet), *stream.encode(None)])


def _strip(seconds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Moments side by side on white, [_SIZE + _GAP, _MOMENTS * _SIZE + _GAP, 3]."""
    chosen = seconds[np.linspace(0, len(seconds) - 1, _MOMENTS).round().astype(int)]
    strip = np.full((_SIZE + _GAP, _MOMENTS * _SIZE + _GAP, 3), 255, np.uint8)
    strip[:_SIZE, : _MOMENTS * _SIZE] = np.concatenate(list(chosen), axis=1)
    return strip
