"""One request at the cache: each of its inputs is found, followed, or computed and kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, get_args

from service.cache.counts import Level
from service.cache.flights import Flight
from service.cache.keys import Key
from service.cache.shared import Claim, SharedCodes
from service.errors import ApiError
from service.inputs import media_modality
from service.request import Item, Outcome, Terms
from service.schemas import AudioInput, VideoInput
from service.serving import Served
from service.trace import Timings
from tessera.codes import Codes
from tessera.errors import InputErrorCode
from tessera.windows import Modality

if TYPE_CHECKING:
    from service.cache.cache import CodesCache

Compute = Callable[[Mapping[int, Item | ApiError]], Awaitable[dict[int, list[Outcome]]]]
"""What becomes of some inputs of a request, by their place in it."""

_FAULTS_OF_INPUTS = frozenset(get_args(InputErrorCode))
"""What is wrong with an input for everybody; other errors are of one request."""


class Visit:
    """One request. Each input that can be cached is found, led or followed; what is led is computed at once.

    Nothing is waited for while something is led: so no two requests wait for each other.
    """

    def __init__(
        self,
        cache: CodesCache,
        model: Served,
        items: Mapping[int, Item | ApiError],
        keys: Mapping[int, Key],
        terms: Terms,
        timings: Timings,
        compute: Compute,
    ) -> None:
        self._cache = cache
        self._model = model
        self._items = items
        self._terms = terms
        self._timings = timings
        self._compute = compute
        self._flights = {index: Flight(key, terms.lane) for index, key in keys.items()}
        self._outcomes: dict[int, list[Outcome]] = {}
        self._led: set[int] = set()
        self._followed: dict[int, asyncio.Future[Codes | ApiError | None]] = {}

    async def computed(self) -> dict[int, list[Outcome]]:
        """All of it, which is more than codes; those are kept."""
        outcomes = await self._compute(self._items)
        for index, flight in self._flights.items():
            (outcome,) = outcomes[index]
            if isinstance(outcome, Codes):
                self._cache.keep(flight, outcome)
        return outcomes

    async def looked_up(self) -> dict[int, list[Outcome]]:
        """What was not found or followed is computed."""
        self._look()
        try:
            if self._led and self._cache.shared is not None:
                await self._ask(self._cache.shared)
            uncached = self._items.keys() - self._flights.keys()
            if self._led or uncached:
                await self._fly(uncached)
            while self._followed:
                await self._follow()
                if self._led:
                    await self._fly()
        finally:
            self._let_go()
        self._require_few_segments()
        return self._outcomes

    def _look(self) -> None:
        """In memory, and among what is computed now."""
        cache = self._cache
        for index, flight in self._flights.items():
            data = cache.memory.get(flight.key)
            if data is not None:
                self._found(index, Codes.from_bytes(data), "memory")
            elif (future := cache.flights.join(flight)) is not None:
                self._followed[index] = future
                cache.counts.follower()
            else:
                self._led.add(index)

    async def _ask(self, shared: SharedCodes) -> None:
        """Redis, for all that is led."""
        cache, started = self._cache, time.perf_counter()
        asked = sorted(self._led)
        claims = await shared.claim([self._flights[index] for index in asked])
        self._timings.took("queue", started)
        for index, claim in zip(asked, claims, strict=True):
            flight, modality = self._flights[index], self._modality(index)
            if isinstance(claim, bytes):
                codes = cache.read(flight, claim, self._model, modality)
                if codes is not None:
                    self._led.discard(index)
                    self._found(index, codes, "redis")
                    cache.land(flight, codes)
            elif claim is Claim.OURS:
                cache.leased(flight)
            elif claim is Claim.THEIRS:
                future = cache.flights.join(flight)
                assert future is not None, "this request leads it. This is a bug."
                self._led.discard(index)
                self._followed[index] = future
                cache.counts.follower()
                # Half of the time of this request is left to compute it here after all.
                cache.watch(flight, self._model, modality, self._terms.seconds_left / 2)

    async def _fly(self, uncached: Iterable[int] = ()) -> None:
        """Compute what is led, and what cannot be cached."""
        for _ in self._led:
            self._cache.counts.miss()
        chosen = sorted(self._led.union(uncached))
        self._outcomes |= await self._compute({index: self._items[index] for index in chosen})
        for index in list(self._led):
            self._led.discard(index)
            self._land(self._flights[index], self._outcomes[index][0])

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        if isinstance(outcome, Codes):
            self._cache.keep(flight, outcome)
            self._cache.land(flight, outcome)
        elif outcome.code in _FAULTS_OF_INPUTS:
            self._cache.land(flight, outcome)
        else:
            self._cache.hand_over(flight)

    async def _follow(self) -> None:
        """Wait until one lands, or is handed over to this request."""
        started = time.perf_counter()
        await asyncio.wait(self._followed.values(), return_when=asyncio.FIRST_COMPLETED)
        self._timings.took("queue", started)
        for index, future in list(self._followed.items()):
            if not future.done():
                continue
            del self._followed[index]
            outcome = future.result()
            if outcome is None:
                self._led.add(index)
            else:
                self._outcomes[index] = [outcome]

    def _let_go(self) -> None:
        """What this request will not do any more, others do."""
        for index in self._led:
            self._cache.hand_over(self._flights[index])
        for index, future in self._followed.items():
            if not future.cancel() and not future.cancelled() and future.result() is None:
                self._cache.hand_over(self._flights[index])

    def _found(self, index: int, codes: Codes, level: Level) -> None:
        self._outcomes[index] = [codes]
        self._cache.counts.hit(level)

    def _modality(self, index: int) -> Modality:
        item = self._items[index]
        return media_modality(item) if isinstance(item, AudioInput | VideoInput) else "text"

    def _require_few_segments(self) -> None:
        """A request is not larger because its codes are known."""
        outcomes = (outcome for each in self._outcomes.values() for outcome in each)
        self._model.admission.require_few_segments(
            sum(len(outcome.codes) for outcome in outcomes if isinstance(outcome, Codes))
        )
