"""What one input may cost at most. Every limit is finite by default and has one setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tessera.errors import InputError, InputErrorCode

Truncate = Literal["none", "start", "end"]
"""What to do with an input that is too long: refuse it, drop its start, drop its end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a single input, enforced while it is decoded. The setting of a field is `TESSERA_<FIELD>`."""

    max_media_bytes: int = 64 * 2**20
    max_media_seconds: float = 3600.0
    max_media_streams: int = 16
    max_video_pixels: int = 4096 * 2304
    max_video_frames: int = 3600 * 60
    max_text_chars: int = 20_000

    def exceeded(self, field: str, code: InputErrorCode, actual: float, unit: str) -> InputError:
        """The error of an input that needs `actual` where `field` allows less."""
        limit = getattr(self, field)
        return InputError(
            code,
            f"{actual:.10g} {unit}, the limit is {limit:.10g}",
            limit=limit,
            actual=actual,
            setting=f"TESSERA_{field.upper()}",
        )
