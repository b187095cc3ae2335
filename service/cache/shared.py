"""What replicas share in Redis: entries, and leases that say that one of them computes an entry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from service.cache.flights import Flight
from service.cache.link import Link

LEASE_SEC = 1.0
"""A lease that is not renewed ends after this time: so long do others wait for a replica that died."""

_CLAIM = """
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('GET', key)
    or (redis.call('SET', key .. ARGV[1], '1', 'NX', 'PX', ARGV[2]) and 1 or 0)
end
return found
"""
"""Entries, or leases where there are none: 1 if it is ours now, 0 if it is another's. At once, so that nobody can store
an entry and end its lease in between."""


class Claim(Enum):
    """There is no entry: it is ours to compute, another replica does, or Redis does not say."""

    OURS = 1
    THEIRS = 0
    UNKNOWN = -1


class SharedCodes:
    """Entries of all replicas. Nothing here raises, and nothing takes longer than the link allows."""

    def __init__(self, link: Link, ttl_seconds: int) -> None:
        """Entries are forgotten after `ttl_seconds`."""
        self._link = link
        self._ttl = ttl_seconds

    async def claim(self, flights: Sequence[Flight]) -> list[bytes | Claim]:
        """The entry of each, or a lease on it; all `flights` are of one lane.

        Leases that a caller does not learn of, because it is cancelled, are given back.
        """
        keys = [_name(flight) for flight in flights]
        lease = _lease_suffix(flights[0]), round(1000 * LEASE_SEC)
        asked = self._link.ask("EVAL", _CLAIM, len(keys), *keys, *lease)
        try:
            return _claims(await asyncio.shield(asked), flights)
        except asyncio.CancelledError:
            asked.add_done_callback(lambda done: self._give_back(flights, done))
            raise

    def store(self, flight: Flight, data: bytes) -> None:
        """Keep `data` for all replicas."""
        self._link.tell("SET", _name(flight), data, "EX", self._ttl)

    def release(self, flight: Flight) -> None:
        """End a lease of ours. One that ran out may end another's: then an entry is computed twice."""
        self._link.tell("DEL", _lease(flight))

    def renew(self, flights: Iterable[Flight]) -> None:
        """Keep leases of ours."""
        for flight in flights:
            self._link.tell("PEXPIRE", _lease(flight), round(1000 * LEASE_SEC))

    async def close(self) -> None:
        """Send what waits, and hang up."""
        await self._link.close()

    def _give_back(self, flights: Sequence[Flight], asked: asyncio.Future[Any]) -> None:
        if asked.cancelled():
            return
        for flight, claim in zip(flights, _claims(asked.result(), flights), strict=True):
            if claim is Claim.OURS:
                self.release(flight)


def _claims(answer: Any, flights: Sequence[Flight]) -> list[bytes | Claim]:
    if not isinstance(answer, list) or len(answer) != len(flights):
        return [Claim.UNKNOWN] * len(flights)
    return [each if isinstance(each, bytes) else Claim(each) for each in answer]


def _name(flight: Flight) -> str:
    return f"tessera:codes:{flight.key.hex()}"


def _lease(flight: Flight) -> str:
    return _name(flight) + _lease_suffix(flight)


def _lease_suffix(flight: Flight) -> str:
    return f":flight:{flight.lane}"
