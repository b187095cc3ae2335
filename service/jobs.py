"""What waits for the device: jobs, cut into slices of equal key, taken as batches. Plain data, no threads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tessera.windows import Window, WindowCodes, WindowKey


@dataclass(slots=True, eq=False)
class Job:
    """Windows that were submitted together and are answered together, through one future."""

    windows: Sequence[Window]
    future: asyncio.Future[Answer]
    submitted: float = field(default_factory=time.perf_counter)
    answers: list[WindowCodes | None] = field(init=False)
    unanswered: int = field(init=False)
    infer_sec: float = 0.0
    failed: bool = False

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.windows)
        self.unanswered = len(self.windows)

    @property
    def over(self) -> bool:
        """Nobody waits for it any more: cancelled by its client, or failed in an earlier batch."""
        return self.failed or self.future.done()

    def answer(self) -> Answer:
        """The answers in the order of the windows, and where the time went."""
        elapsed = time.perf_counter() - self.submitted
        complete = [codes for codes in self.answers if codes is not None]
        assert len(complete) == len(self.windows), "a job is answered when each window is. This is a bug."
        return Answer(complete, elapsed - self.infer_sec, self.infer_sec)


@dataclass(slots=True, frozen=True)
class Answer:
    """The codes of the windows of a job; seconds it waited, and seconds its batches ran."""

    codes: list[WindowCodes]
    queue_sec: float
    infer_sec: float


@dataclass(slots=True)
class Slice:
    """The windows of one job that have one key, by their positions in the job."""

    job: Job
    positions: list[int]
    arrival: int

    @property
    def windows(self) -> list[Window]:
        """The windows themselves."""
        return [self.job.windows[position] for position in self.positions]

    def split(self, count: int) -> Slice:
        """Cut off and return the first `count` windows."""
        head = Slice(self.job, self.positions[:count], self.arrival)
        self.positions = self.positions[count:]
        return head


class WindowQueue:
    """First come, first served, by the oldest slice: its key makes the batch, and younger slices ride along.

    So no key starves, and a batch never holds more than `max_batch_segments`, unless one window alone does.
    """

    def __init__(self, max_batch_segments: int) -> None:
        self._max_batch_segments = max_batch_segments
        self._waiting: dict[WindowKey, deque[Slice]] = {}
        self._arrivals = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, job: Job) -> None:
        """Let `job` wait, one slice per key."""
        slices: dict[WindowKey, Slice] = {}
        for position, window in enumerate(job.windows):
            key = window.key
            if key in slices:
                slices[key].positions.append(position)
                continue
            slices[key] = Slice(job, [position], self._arrivals)
            self._waiting.setdefault(key, deque()).append(slices[key])
        self._arrivals += 1

    def next_batch(self) -> list[Slice]:
        """Slices of distinct jobs and one key; empty when nobody waits. Jobs that are over are dropped."""
        while self._waiting:
            key = min(self._waiting, key=lambda key: self._waiting[key][0].arrival)
            batch = self._fill(self._waiting[key])
            if not self._waiting[key]:
                del self._waiting[key]
            if batch:
                return batch
        return []

    def _fill(self, line: deque[Slice]) -> list[Slice]:
        batch: list[Slice] = []
        room = self._max_batch_segments
        while line:
            head = line[0]
            if head.job.over:
                line.popleft()
                continue
            segments = head.job.windows[head.positions[0]].segments
            fitting = room // segments if batch else max(1, room // segments)
            if fitting == 0:
                break
            if fitting < len(head.positions):
                batch.append(head.split(fitting))
                break
            batch.append(line.popleft())
            room -= segments * len(head.positions)
        return batch
