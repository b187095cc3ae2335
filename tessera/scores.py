"""How the scores of an evaluation are written, wherever people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(interval: Mapping[str, Any]) -> str:
    """A mean with its 95 % half-width, where there is one, in percent."""
    mean, half_width = 100 * interval["mean"], interval["half_width"]
    return f"{mean:.1f} %" if half_width is None else f"{mean:.1f} ± {100 * half_width:.1f} %"
