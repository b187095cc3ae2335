"""Features of a clip brought to the seconds and the type of a store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.data.archives.faults import BadClip

ROW_SHAPES = {"audio": (128,), "video": (7, 7, 512)}
"""Of one second: VGGish and VGG19's last pooling."""


def fit_seconds(rows: NDArray[Any], seconds: int) -> NDArray[Any]:
    """[T, ...] -> [seconds, ...]: the last row is repeated where there are too few, what is too much is cut.

    So do the released loaders with all audio and with the video of UCF. Those of VGGSound and AVVP leave video as it
    is, which their batches can hold only because each clip has ten seconds; here every clip gets the same rule.

    Raises:
        BadClip: there is no row.
    """
    if not len(rows):
        raise BadClip("it has no second at all")
    return rows[np.minimum(np.arange(seconds), len(rows) - 1)]


def usable(modality: str, array: NDArray[Any], seconds: int, dtype: DTypeLike) -> NDArray[Any]:
    """The features of one clip as they are stored, [seconds, *ROW_SHAPES[modality]].

    A single picture, which has no time axis, is a clip of one second.

    Raises:
        BadClip: the shape is another, or a value is no finite number of the type.
    """
    row_shape = ROW_SHAPES[modality]
    rows = array[None] if array.shape == row_shape else array
    if rows.shape[1:] != row_shape or rows.ndim != len(row_shape) + 1:
        expected = ", ".join(map(str, row_shape))
        raise BadClip(f"{modality} is {list(array.shape)}, expected [seconds, {expected}]")
    with np.errstate(over="ignore"):
        cast = fit_seconds(rows, seconds).astype(dtype)
    if not np.isfinite(cast).all():
        raise BadClip(f"{modality} holds values that are no finite {np.dtype(dtype)} numbers")
    return cast
