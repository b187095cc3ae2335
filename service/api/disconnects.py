"""Work of a request that ends when its client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from service.errors import ClientDisconnected

Result = TypeVar("Result")

_SOON = 0.05
"""Seconds: whoever is answered within them is not watched, which costs more than the work that would be saved."""


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled, and so dropped from the queue, when the client goes away.

    Raises:
        ClientDisconnected: it went.
    """
    task = asyncio.current_task()
    assert task is not None, "a request is answered in a task. This is a bug."
    watch = _Watch(request, task)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.left and not task.uncancel():
            raise ClientDisconnected from None
        raise
    finally:
        watch.stop()


class _Watch:
    """Cancels a task when the client of its request goes away."""

    def __init__(self, request: Request, task: asyncio.Task[object]) -> None:
        self.left = False
        self._request = request
        self._task = task
        self._waiting: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_SOON, self._begin)

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._waiting is not None:
            self._waiting.remove_done_callback(self._leave)
            self._waiting.cancel()

    def _begin(self) -> None:
        self._waiting = asyncio.ensure_future(_disconnect(self._request))
        self._waiting.add_done_callback(self._leave)

    def _leave(self, _: object) -> None:
        self.left = True
        self._task.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
