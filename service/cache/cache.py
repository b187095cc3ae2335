"""The cache of a process: its memory, what is computed now, and what replicas share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from concurrent.futures import Executor

from service.cache.counts import CacheCounts
from service.cache.entries import fits, read_entry
from service.cache.flights import Flight, Flights
from service.cache.keys import CacheableInput, Key, Keys, is_light
from service.cache.memory import Memory
from service.cache.shared import LEASE_SEC, Claim, SharedCodes
from service.cache.visit import Compute, Visit
from service.errors import ApiError
from service.request import Item, Outcome, Terms
from service.schemas import AudioInput, TextInput, VideoInput
from service.serving import Served
from service.trace import Timings
from tessera.codes import Codes
from tessera.windows import Modality

_FIRST_PAUSE_SEC = 0.004
_LONGEST_PAUSE_SEC = LEASE_SEC / 10
_LONGEST_WATCH_SEC = 10.0
"""That another replica lives does not mean that it is quick."""


class CodesCache:
    """Belongs to one event loop. Whatever fails in it costs a computation, never an answer."""

    def __init__(self, memory: Memory, counts: CacheCounts, shared: SharedCodes | None = None) -> None:
        self.memory = memory
        self.counts = counts
        self.shared = shared
        self.flights: Flights[Codes | ApiError] = Flights()
        self._keys: dict[tuple[str, ...], Keys] = {}
        self._leases: set[Flight] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = False

    async def outcomes(
        self,
        model: Served,
        items: Mapping[int, Item | ApiError],
        terms: Terms,
        timings: Timings,
        compute: Compute,
        threads: Executor,
    ) -> dict[int, list[Outcome]]:
        """What `compute` says of `items`, computed as little as possible; large ones are hashed in `threads`.

        Raises:
            ApiError: what is left to compute is not admitted.
        """
        keys = await self._keys_of(model, items, terms, timings, threads)
        if not keys:
            return await compute(items)
        visit = Visit(self, model, items, keys, terms, timings, compute)
        return await (visit.computed() if terms.full else visit.looked_up())

    async def close(self) -> None:
        """Send what is to be sent, and hang up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.shared is not None:
            await self.shared.close()

    async def _keys_of(
        self,
        model: Served,
        items: Mapping[int, Item | ApiError],
        terms: Terms,
        timings: Timings,
        threads: Executor,
    ) -> dict[int, Key]:
        """Those of the inputs that are worth it: whoever has features had the input, whose codes are worth keeping."""
        cacheable = {
            i: item for i, item in items.items() if isinstance(item, TextInput | AudioInput | VideoInput)
        }
        if not cacheable or not fits(model.opener):
            return {}
        hashed = self._keys_of_model(model)

        def keys_of(some: Iterable[tuple[int, CacheableInput]]) -> dict[int, Key]:
            found = {}
            for index, item in some:
                try:
                    found[index] = hashed.of(item, terms.truncate)
                except ApiError:
                    continue  # whoever computes it says the same
            return found

        keys = keys_of((index, item) for index, item in cacheable.items() if is_light(item))
        heavy = [(index, item) for index, item in cacheable.items() if not is_light(item)]
        if heavy:
            started = time.perf_counter()
            keys |= await asyncio.get_running_loop().run_in_executor(threads, keys_of, heavy)
            timings.took("decode", started)
        return keys

    def _keys_of_model(self, model: Served) -> Keys:
        name = model.opener.bundle.revision, *model.providers
        if name not in self._keys:
            self._keys[name] = Keys(model.opener, model.providers)
        return self._keys[name]

    def keep(self, flight: Flight, codes: Codes) -> None:
        """In memory and for all replicas."""
        data = codes.to_bytes()
        self.memory.put(flight.key, data)
        if self.shared is not None:
            self.shared.store(flight, data)

    def land(self, flight: Flight, outcome: Codes | ApiError) -> None:
        """Tell all who follow what became of it, here and elsewhere."""
        self.flights.land(flight, outcome)
        self._release(flight)

    def hand_over(self, flight: Flight) -> None:
        """Let somebody else compute it, here or elsewhere."""
        if not self.flights.hand_over(flight):
            self._release(flight)

    def leased(self, flight: Flight) -> None:
        """All replicas but this one wait for it now, as long as the lease is renewed."""
        self._leases.add(flight)
        if not self._renewing:
            self._renewing = True
            self._begin(self._renew())

    def watch(self, flight: Flight, model: Served, modality: Modality, seconds: float) -> None:
        """Another replica computes it: look whether it is done, for at most `seconds`."""
        self._begin(self._watch(flight, model, modality, min(seconds, _LONGEST_WATCH_SEC)))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        assert self.shared is not None, "leases are of a Redis. This is a bug."
        while True:
            await asyncio.sleep(LEASE_SEC / 3)
            if not self._leases:
                break
            self.shared.renew(self._leases)
        self._renewing = False

    async def _watch(self, flight: Flight, model: Served, modality: Modality, seconds: float) -> None:
        """Lead `flight` as long as another replica computes it and somebody here waits."""
        assert self.shared is not None, "other replicas are met in a Redis. This is a bug."
        pause, claim, until = _FIRST_PAUSE_SEC, Claim.THEIRS, time.perf_counter() + seconds
        while claim is Claim.THEIRS and self.flights.followed(flight) and time.perf_counter() < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SEC)
            found = (await self.shared.claim([flight]))[0]
            codes = self.read(flight, found, model, modality) if isinstance(found, bytes) else None
            if codes is not None:
                self.land(flight, codes)
                return
            claim = found if isinstance(found, Claim) else Claim.UNKNOWN
        if claim is Claim.OURS:
            self.leased(flight)
        self.hand_over(flight)

    def read(self, flight: Flight, data: bytes, model: Served, modality: Modality) -> Codes | None:
        """The codes of an entry of Redis, which is kept in memory too; None if it cannot be believed."""
        try:
            codes = read_entry(data, model.opener, modality)
        except ValueError:
            self.counts.error("unreadable")
            return None
        self.memory.put(flight.key, data)
        return codes

    def _release(self, flight: Flight) -> None:
        if flight in self._leases and self.shared is not None:
            self._leases.discard(flight)
            self.shared.release(flight)
