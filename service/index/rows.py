"""Items on their way into a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index.space import FlatCodes


class Rows(NamedTuple):
    """Items on their way into a part: arrays over R rows, `codes` one row after the other."""

    keys: NDArray[np.int64]
    ranks: NDArray[np.uint32]
    """Places of the items in the order of their ids, among these items."""
    modalities: NDArray[np.uint8]
    weights: NDArray[np.float32]
    widths: NDArray[np.int64]
    codes: FlatCodes


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of `parts`; their ranks have to be set anew."""
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def spread(starts: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(widths)
    places: NDArray[np.int64] = np.repeat(starts - (ends - widths), widths)
    return places + np.arange(len(places))
