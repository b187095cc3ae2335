"""Equal inputs at the same moment: one is computed, the others wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, NamedTuple, TypeVar

from service.cache.keys import Key
from service.jobs import Lane

Result = TypeVar("Result")


class Flight(NamedTuple):
    """What is computed. Lanes fly apart: somebody who waits must not wait for bulk."""

    key: Key
    lane: Lane


class Flights(Generic[Result]):
    """Who waits for what. Whoever leads a flight lands it or hands it over; a follower that is told None leads now.

    One follower at a time is told so: if each of a thousand then fails, that makes a thousand steps and not a million.
    """

    def __init__(self) -> None:
        self._followers: dict[Flight, deque[asyncio.Future[Result | None]]] = {}

    def join(self, flight: Flight) -> asyncio.Future[Result | None] | None:
        """What becomes of `flight`; None if it begins now, and the caller leads it."""
        if flight not in self._followers:
            self._followers[flight] = deque()
            return None
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._followers[flight].append(future)
        return future

    def land(self, flight: Flight, result: Result) -> None:
        """Tell everybody who follows."""
        for future in self._followers.pop(flight, ()):
            if not future.done():
                future.set_result(result)

    def hand_over(self, flight: Flight) -> bool:
        """Let the first who still follows lead; false if nobody does, and the flight is over."""
        followers = self._followers.get(flight, deque())
        while followers:
            future = followers.popleft()
            if not future.done():
                future.set_result(None)
                return True
        self._followers.pop(flight, None)
        return False

    def followed(self, flight: Flight) -> bool:
        """Whether anybody waits."""
        return any(not future.done() for future in self._followers.get(flight, ()))
