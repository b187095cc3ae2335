"""The metrics of the cache. With several front ends each is the sum of theirs, which is why states are counted."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Gauge

from service.cache.breaker import STATES, Breaker, State
from service.cache.memory import Memory
from service.tally import Count

Level = Literal["memory", "redis"]
ErrorKind = Literal["timeout", "connection", "refused", "dropped", "unreadable"]
"""Of Redis: no answer in time; none at all; an error as answer; too much waits for it; an answer that is no entry."""


class CacheCounts:
    """To be used by one thread alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._hits = Count("tessera_cache_hits", "Inputs whose codes were kept.", ["level"], registry)
        self._misses = Count("tessera_cache_misses", "Inputs that were computed.", [], registry)
        self._followers = Count(
            "tessera_cache_followers", "Inputs that waited for an equal one.", [], registry
        )
        self._errors = Count(
            "tessera_cache_errors", "Faults of Redis, none of a request.", ["kind"], registry
        )
        self._hits.add(("memory",), 0)
        self._misses.add((), 0)
        self._followers.add((), 0)

    def hit(self, level: Level) -> None:
        """Codes were found."""
        self._hits.add((level,))

    def miss(self) -> None:
        """Codes have to be computed."""
        self._misses.add(())

    def follower(self) -> None:
        """Somebody else computes the codes."""
        self._followers.add(())

    def error(self, kind: ErrorKind) -> None:
        """Redis was of no help."""
        self._errors.add((kind,))

    def watch_memory(self, memory: Memory) -> None:
        """Add the gauges of `memory`."""
        self._gauge("tessera_cache_entries", "Entries in memory.").set_function(lambda: len(memory))
        self._gauge("tessera_cache_bytes", "Memory of the entries.").set_function(lambda: memory.bytes)

    def watch_breaker(self, breaker: Breaker) -> None:
        """Add how many processes have their breaker in each state."""
        gauge = Gauge(
            "tessera_cache_breakers",
            "Processes whose breaker is in this state.",
            ["state"],
            registry=self._registry,
        )

        def is_in(state: State) -> float:
            return breaker.state == state

        for state in STATES:
            gauge.labels(state).set_function(partial(is_in, state))
        self._hits.add(("redis",), 0)
        for kind in get_args(ErrorKind):
            self._errors.add((kind,), 0)

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, registry=self._registry)
