"""A timer for an event loop that is finer than the loop's own, which counts whole milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_ABSOLUTE = 1


class _Moment(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


class FineTimer:
    """Calls back once at a moment of `time.monotonic`, to some tens of microseconds; a timerfd of Linux."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._setting = _Setting()
        self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timer can be had")
        loop.add_reader(self._file, self._ring)

    def arm(self, at: float) -> None:
        """Ring at `at`; a moment that is past rings at once."""
        value = self._setting.value
        value.sec, value.nsec = divmod(max(1, int(at * 1e9)), 1_000_000_000)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(self._setting), None)

    def close(self) -> None:
        """Give the timer back."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _ring(self) -> None:
        os.read(self._file, 8)
        self._callback()


class CoarseTimer:
    """The same where there is no timerfd, as fine as the loop is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = loop

    def arm(self, at: float) -> None:
        """Ring at `at`."""
        self._loop.call_later(max(0.0, at - time.monotonic()), self._callback)

    def close(self) -> None:
        """Nothing is held."""


def timer(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> FineTimer | CoarseTimer:
    """The finest timer that this system has."""
    fine = hasattr(ctypes.CDLL(None), "timerfd_create")
    return FineTimer(loop, callback) if fine else CoarseTimer(loop, callback)
