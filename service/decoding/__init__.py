"""Media of strangers is decoded in processes that can do nothing else, and that may die of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.decoding.reading import Decoding
    from service.settings import Settings


def decoding_of(settings: Settings, turns: int) -> Decoding:
    """Where this system decodes: in processes on Linux, else in threads. At most `turns` clips at the same moment."""
    if sys.platform == "linux":
        from service.decoding.processes import ProcessDecoding

        return ProcessDecoding(settings, turns)
    from service.decoding.threads import ThreadDecoding

    return ThreadDecoding(turns)
