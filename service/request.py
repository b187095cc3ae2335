"""What is asked of the engine: inputs, terms, and the way of one request to its device and back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.decoding.reading import Reader
from service.errors import ApiError
from service.jobs import Answer, Block, Lane
from service.ready import FeatureArray
from service.schemas import Input
from service.serving import Served
from service.trace import Timings
from tessera.codes import Codes
from tessera.limits import Truncate
from tessera.windows import Window

Item = Input | FeatureArray
Outcome = Codes | ApiError


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants its inputs tokenised; `deadline` is on the clock of `time.perf_counter`.

    Without `full`, codes alone are answered, from which embeddings can be looked up; with it, an `Encoding`.
    """

    truncate: Truncate = "none"
    full: bool = True
    lane: Lane = "interactive"
    deadline: float | None = None

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return math.inf if self.deadline is None else self.deadline - time.perf_counter()


def clips_of(items: Sequence[Item | ApiError]) -> int:
    """How many clips `items` are: of an array of features, several."""
    return sum(len(item.values) if isinstance(item, FeatureArray) else 1 for item in items)


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What its inputs share; `place` is that of the one input that this is of, if it is of one."""

    model: Served
    terms: Terms
    timings: Timings
    place: int | None = None

    def submit(self, blocks: Sequence[Block]) -> asyncio.Future[Answer]:
        """Send `blocks` to the device."""
        terms = self.terms
        return self.model.device.submit(
            self.model.name, blocks, lane=terms.lane, full=terms.full, deadline=terms.deadline
        )

    async def received(self, running: asyncio.Future[Answer]) -> Answer:
        """The answer, once it is there."""
        answer = await running
        timings = self.timings
        timings.queue += answer.queue_sec
        timings.infer += answer.infer_sec
        if timings.notes is not None:
            waiting_since = answer.submitted
            for started, ended in answer.runs:
                timings.note("queue", waiting_since, started, self.place)
                timings.note("infer", started, ended, self.place)
                waiting_since = ended
        return answer

    async def read(self, reader: Reader, count: int) -> list[Window]:
        """The next windows of a clip. Whoever reads waits first, for a decoder, which then decodes."""
        started, decoded = time.perf_counter(), reader.decode_sec
        try:
            return await reader.take(count)
        finally:
            ended = time.perf_counter()
            begun = max(started, ended - (reader.decode_sec - decoded))
            self.timings.note("queue", started, begun, self.place)
            self.timings.note("decode", begun, ended, self.place)
