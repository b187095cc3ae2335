"""The kernels of this machine: compiled where numba is installed, in numpy otherwise; the answers are the same."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

COMPILED = find_spec("numba") is not None
"""Whether numba is installed."""

if TYPE_CHECKING or not COMPILED:
    from service.index.plain import BLOCK, best_rows, best_rows_of_many, nearest_anchors
else:
    from service.index.fast import BLOCK, best_rows, best_rows_of_many, nearest_anchors

__all__ = ["BLOCK", "COMPILED", "best_rows", "best_rows_of_many", "nearest_anchors"]
