"""How often a key may ask, and for how much: buckets of tokens that all front ends share.

A bucket is one number: the time at which it will be full again. What is taken moves that time on; so a bucket that
nobody uses is as one that never was, and its place may be another's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from service.errors import ApiError
from service.security.keys import MAX_KEYS, Key
from service.settings import Settings, setting_name

_FULL_SECONDS = 60.0
"""What a bucket holds: a minute's worth may be used at once."""

_SLOTS = 4 * MAX_KEYS

RATES_BYTES = 3 * 8 * _SLOTS
"""Of each slot: whose it is, and when its buckets of requests and of segments will be full."""


class Rates:
    """Requests are counted as they come; segments once they are known, so the last request may overdraw a bucket.

    Whoever overdrew waits until all of it is earned back.
    """

    def __init__(
        self,
        memory: memoryview,
        settings: Settings,
        lock: Callable[[], AbstractContextManager[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`memory` has `RATES_BYTES`; processes of one machine share the clock. `lock` keeps them apart."""
        self._owners = memory[: 8 * _SLOTS].cast("q")
        self._full_at = memory[8 * _SLOTS :].cast("d")
        self._requests = settings.key_requests_per_minute
        self._segments = settings.key_segments_per_minute
        self._lock = lock
        self._clock = clock

    @classmethod
    def own(cls, settings: Settings, clock: Callable[[], float] = time.monotonic) -> Self:
        """Those of one process."""
        return cls(memoryview(bytearray(RATES_BYTES)), settings, nullcontext, clock)

    def take(self, key: Key) -> None:
        """Count a request.

        Raises:
            ApiError: `rate_limited`.
        """
        now = self._clock()
        request = 60 / (key.requests_per_minute or self._requests)
        with self._lock():
            at = 2 * self._slot(_owner(key), now)
            requests, segments = max(now, self._full_at[at]), self._full_at[at + 1]
            if requests + request - now <= _FULL_SECONDS and segments - now < _FULL_SECONDS:
                self._full_at[at] = requests + request
                return
        waits = (requests + request - now - _FULL_SECONDS, segments - now - _FULL_SECONDS)
        if waits[0] > 0:
            raise _refusal("requests", key.requests_per_minute, self._requests, requests - now, max(waits))
        raise _refusal("segments", key.segments_per_minute, self._segments, segments - now, waits[1])

    def spend(self, key: Key, segments: int) -> None:
        """Count what a request came to."""
        if not segments:
            return
        now = self._clock()
        with self._lock():
            at = 2 * self._slot(_owner(key), now) + 1
            spent = segments * 60 / (key.segments_per_minute or self._segments)
            self._full_at[at] = max(now, self._full_at[at]) + spent

    def _slot(self, owner: int, now: float) -> int:
        """The place of a key; or one that is free by now, on the way to the first that was never used."""
        free = None
        for step in range(_SLOTS):
            slot = (owner + step) % _SLOTS
            if self._owners[slot] == owner:
                return slot
            if free is None and max(self._full_at[2 * slot], self._full_at[2 * slot + 1]) <= now:
                free = slot
            if not self._owners[slot]:
                break
        # There are more slots than keys: all are in use only where keys by the thousand were replaced within a minute.
        slot = owner % _SLOTS if free is None else free
        self._owners[slot] = owner
        return slot


def _owner(key: Key) -> int:
    """A number for a key, the same in all processes."""
    return int(key.sha256[:15], 16)


def _refusal(what: str, own: float | None, default: float, used_seconds: float, wait: float) -> ApiError:
    limit = own or default
    return ApiError(
        "rate_limited",
        f"the {limit:g} {what} a minute of this key are used",
        limit=limit,
        actual=math.ceil(used_seconds * limit / 60),
        setting=None if own else setting_name(f"key_{what}_per_minute"),
        retry_after=max(1, math.ceil(wait)),
    )
