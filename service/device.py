"""A device and the models that run on it, as the engine sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from service.jobs import Answer, Block, Lane


class Device(Protocol):
    """Where blocks are sent: the scheduler of this process, or that of another."""

    @property
    def warm(self) -> bool:
        """Whether a real batch of each model ran."""

    @property
    def alive(self) -> bool:
        """Whether the device answers."""

    @property
    def waiting(self) -> int:
        """Jobs without an answer."""

    @property
    def oldest_sec(self) -> float:
        """Age of the oldest job without an answer."""

    def start(self) -> None:
        """Begin; to be called in the event loop that will submit."""

    async def close(self, timeout: float) -> None:
        """Run what was submitted, then end; a device that hangs is left behind after `timeout` seconds."""

    def submit(
        self,
        model: str,
        blocks: Sequence[Block],
        *,
        lane: Lane = "interactive",
        full: bool = True,
        deadline: float | None = None,
    ) -> asyncio.Future[Answer]:
        """The answer for `blocks`, once all of them ran. Cancel the future, and what has not run is dropped.

        Raises:
            ApiError: `device_lost`; from the future also `deadline_exceeded`.
        """
