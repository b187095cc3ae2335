"""What waits for a device, and who is next. Plain data, no threads, no clock of its own.

A flow is a lane of a model. Flows share the device by weight (start-time fair queueing, by cost); within a flow the
oldest slice is served first, and what has its shape rides along. Other flows of the model ride along where their oldest
slice can, within their share. So nothing starves.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from service.jobs import BlockKey, Job, Lane, Slice
from tessera.windows import Modality, Stage

LANE_WEIGHTS: dict[Lane, float] = {"interactive": 8.0, "bulk": 1.0}


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """No batch has more segments or costs more, unless a single window does.

    Of `streams` batches that run beside each other, each takes so many times its cost.
    """

    segments: int
    micros: int
    streams: int = 1

    @property
    def seconds(self) -> float:
        """What a batch takes at the most."""
        return self.micros * self.streams / 1e6


@dataclass(slots=True)
class Batch:
    """Slices of one model and one key that run together."""

    model: str
    key: BlockKey
    slices: list[Slice] = field(default_factory=list)
    windows: int = 0
    segments: int = 0
    micros: int = 0
    deadline: float = math.inf

    def add(self, part: Slice) -> None:
        """Take `part` along."""
        self.slices.append(part)
        self.deadline = min(self.deadline, part.job.deadline or math.inf)
        self.windows += part.count
        self.segments += part.count * part.job.blocks[part.block].segments
        self.micros += part.micros

    @property
    def modality(self) -> Modality:
        """That of its windows."""
        return self.key[0]

    @property
    def stage(self) -> Stage:
        """Where its windows come in."""
        return self.key[1]

    @property
    def full(self) -> bool:
        """Whether anybody in it wants more than codes."""
        return any(part.job.full for part in self.slices)


class _Flow:
    """The slices of one lane of one model, by key; `served` is the cost it was served over its weight."""

    def __init__(self, model: str, weight: float) -> None:
        self.model = model
        self.weight = weight
        self.served = 0.0
        self.lines: dict[BlockKey, deque[Slice]] = {}

    def oldest(self) -> BlockKey:
        """The key of its oldest slice."""
        return min(self.lines, key=lambda key: self.lines[key][0].arrival)

    def tidy(self, key: BlockKey) -> None:
        """Forget a line that is empty."""
        if not self.lines[key]:
            del self.lines[key]


class FairQueue:
    """Slices by flow and key. Whoever uses it from several threads holds a lock."""

    def __init__(self, weights: dict[str, float], bounds: BatchBounds) -> None:
        """`weights` of the models that share the device."""
        self.micros = 0
        self._bounds = bounds
        self._flows = {
            (model, lane): _Flow(model, weight * share)
            for model, weight in weights.items()
            for lane, share in LANE_WEIGHTS.items()
        }
        self._arrivals = 0
        self._served = 0.0

    def __bool__(self) -> bool:
        return any(flow.lines for flow in self._flows.values())

    @property
    def fills_a_batch(self) -> bool:
        """Whether what waits is as much as a batch may hold: waiting for more would gain nothing."""
        return self.micros >= self._bounds.micros

    def push(self, model: str, job: Job) -> None:
        """Let `job` wait, a slice for each of its blocks."""
        flow = self._flows[model, job.lane]
        if not flow.lines:
            # A flow that was idle saved nothing up.
            flow.served = max(flow.served, self._served)
        for index, block in enumerate(job.blocks):
            part = Slice(job, index, 0, block.count, self._arrivals)
            flow.lines.setdefault(block.key, deque()).append(part)
        self.micros += job.micros
        self._arrivals += 1

    def next_batch(self, now: float) -> tuple[Batch | None, list[Job]]:
        """The slices that run next, None when nobody waits; and jobs that were dropped, because time is up.

        Jobs that nobody waits for any more are dropped without a word. While others wait, so are those that cannot be
        answered in time; and a batch grows no further than what is in it can wait.
        """
        late: dict[Job, None] = {}
        for flow in self._flows.values():
            for key in tuple(flow.lines):
                self._drop(flow.lines[key], now, late)
                flow.tidy(key)
        waiting = [flow for flow in self._flows.values() if flow.lines]
        if not waiting:
            return None, list(late)
        flow = min(waiting, key=lambda flow: flow.served)
        self._served = max(self._served, flow.served)
        batch = Batch(flow.model, flow.oldest())
        self._fill(batch, flow, now, late)
        for other in waiting:
            if other is not flow and other.model == flow.model and self._may_ride(other, batch.key):
                self._fill(batch, other, now, late)
        return batch, list(late)

    def _may_ride(self, flow: _Flow, key: BlockKey) -> bool:
        """Whether `flow` rides along in a batch of another, which it pays for: with its oldest slice, or its turn would
        go to younger ones for ever; and not far ahead of its share, or its next turn would be far away.
        """
        ahead = (flow.served - self._served) * flow.weight
        return ahead < self._bounds.micros and key in flow.lines and flow.oldest() == key

    def _fill(self, batch: Batch, flow: _Flow, now: float, late: dict[Job, None]) -> None:
        line = flow.lines[batch.key]
        while line and (count := self._fitting(batch, line[0], now)):
            taken = line.popleft() if count >= line[0].count else line[0].split(count)
            batch.add(taken)
            flow.served += self._leave(taken) / flow.weight
            self._drop(line, now, late)
        flow.tidy(batch.key)

    def _drop(self, line: deque[Slice], now: float, late: dict[Job, None]) -> None:
        """Drop the first slices of `line` whose answer nobody waits for, or comes too late."""
        while line and (line[0].job.future.done() or self._is_late(line[0], now)):
            part = line.popleft()
            if not part.job.future.done():
                late[part.job] = None
            self._leave(part)

    def _is_late(self, part: Slice, now: float) -> bool:
        """Whether its time is over; or will be before a batch of it ends, and others wait who can be answered."""
        least = part.job.window_micros[part.block] * self._bounds.streams / 1e6
        return part.job.expired(now) or (self.micros > part.micros and part.job.expired(now + least))

    def _leave(self, part: Slice) -> int:
        self.micros -= part.micros
        return part.micros

    def _fitting(self, batch: Batch, part: Slice, now: float) -> int:
        """How many of its windows the batch still takes; the first window always."""
        segments = part.job.blocks[part.block].segments
        micros = part.job.window_micros[part.block]
        most = min(
            self._bounds.micros, self._micros_until(min(batch.deadline, part.job.deadline or math.inf), now)
        )
        room = min((self._bounds.segments - batch.segments) // segments, (most - batch.micros) // micros)
        return max(room, 0 if batch.slices else 1)

    def _micros_until(self, deadline: float, now: float) -> int:
        """What a batch may cost that has to end by then."""
        seconds = min(deadline - now, self._bounds.seconds)
        return max(0, int(seconds / self._bounds.streams * 1e6))
