"""The cache as requests meet it: each input is found, waited for, or computed and kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, get_args

from service.cache.counts import CacheCounts, Level
from service.cache.entries import fits, read_entry
from service.cache.flights import Flight, Flights
from service.cache.keys import CacheableInput, Key, Keys, is_light
from service.cache.memory import Memory
from service.cache.shared import LEASE_SEC, Claim, SharedCodes
from service.errors import ApiError
from service.inputs import media_modality
from service.schemas import AudioInput, TextInput, VideoInput
from tessera.codes import Codes
from tessera.errors import InputErrorCode
from tessera.windows import Modality

if TYPE_CHECKING:
    from service.engine import Item, Outcome, Terms
    from service.serving import Served
    from service.trace import Timings

Compute = Callable[["Mapping[int, Item | ApiError]"], "Awaitable[dict[int, list[Outcome]]]"]
"""What becomes of some inputs of a request, by their place in it."""

_FAULTS_OF_INPUTS = frozenset(get_args(InputErrorCode))
"""What is wrong with an input for everybody; other errors are of one request."""

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
        visit = _Visit(self, model, items, keys, terms, timings, compute)
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
        """Those of the inputs that are worth it; hashing features costs as much as their graph."""
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


class _Visit:
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
