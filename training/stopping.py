"""Ctrl-C and SIGTERM as a question that is answered between two steps, so that nothing is lost by half."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopSignal:
    """While it is entered, a signal to stop is only taken note of."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may handle signals; elsewhere nobody can send one either.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
