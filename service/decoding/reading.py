"""Reading clips, wherever they are decoded."""

from __future__ import annotations

from typing import Protocol

from service.inputs import MediaInput
from tessera.clips import Clip
from tessera.limits import Truncate
from tessera.opener import ClipOpener
from tessera.windows import Window


class Reader(Protocol):
    """Reads one clip, a few windows at a time, without ever blocking the event loop."""

    decode_sec: float
    wait_sec: float
    ended: bool

    @property
    def clip(self) -> Clip:
        """What is known of the clip, once a part of it was read."""

    async def take(self, count: int) -> list[Window]:
        """The next `count` windows; fewer at the end of the clip.

        Raises:
            InputError: it cannot be decoded.
            ApiError: it cannot be read.
        """

    def close(self) -> None:
        """Free what decodes it."""


class Decoding(Protocol):
    """Where clips are decoded."""

    @property
    def restarts(self) -> int:
        """Decoders that died or had to be killed at work."""

    def start(self) -> None:
        """To be called in the event loop of the readers."""

    async def close(self) -> None:
        """End."""

    def reader(self, opener: ClipOpener, item: MediaInput, truncate: Truncate) -> Reader:
        """One for the media of `item`."""
