"""The engine in this process, without HTTP: what is lost between the graphs and the front end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import count

import uvloop

from service.app import create_app
from service.bench.cases import Case
from service.bundles import LoadedBundle
from service.engine import Engine
from service.errors import ApiError
from service.request import Terms
from service.settings import Settings
from service.trace import Timings
from tessera.errors import TesseraError

_CHECK_EVERY = 50
_TERMS = Terms(full=False)


@dataclass(frozen=True)
class CoreRate:
    """Items a second, and the processor seconds of one: of the engine, and of what asks it."""

    items: float
    cpu_sec: float


def core_rate(case: Case, size: int, seconds: float) -> CoreRate:
    """Items a second through the scheduler in requests of `size` items, as many at once as over HTTP.

    Raises:
        TesseraError: an answer was wrong.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(case, size, seconds))


async def _drive(case: Case, size: int, seconds: float) -> CoreRate:
    app = create_app(Settings.load(cache_bytes=0), [LoadedBundle("bench", case.tokenizer)])
    async with app.api.router.lifespan_context(app.api):
        engine: Engine = app.state.engine
        while not engine.ready:
            await asyncio.sleep(0.01)
        await _load(engine, case, size, seconds / 5)
        return await _load(engine, case, size, seconds)


async def _load(engine: Engine, case: Case, size: int, seconds: float) -> CoreRate:
    turns = [case.turn(first, size) for first in range(len(case.clips))]
    asked = [(case.items(turn), [clip.codes for clip in turn]) for turn in turns]
    numbers, answered = count(), 0
    cpu, started = time.process_time(), time.perf_counter()
    until = started + seconds

    async def work() -> None:
        nonlocal answered
        while time.perf_counter() < until:
            number = next(numbers)
            items, codes = asked[number % len(asked)]
            outcomes = await engine.tokenize(engine.default, items, _TERMS, Timings())
            good = [outcome for outcome in outcomes if not isinstance(outcome, ApiError)]
            if len(good) < len(outcomes):
                raise TesseraError("the engine refused what it was measured with")
            if number % _CHECK_EVERY == 0 and [outcome.codes.tolist() for outcome in good] != codes:
                raise TesseraError("the engine answered wrongly")
            answered += len(good)

    await asyncio.gather(*(work() for _ in range(case.in_flight(size))))
    elapsed = time.perf_counter() - started
    return CoreRate(answered / elapsed, (time.process_time() - cpu) / max(1, answered))
