"""The threads of a device, and how work reaches it and comes back.

The event loop puts jobs into an inbox and never waits. A stream is a thread that runs batch after batch: an idle one at
once with whatever is there, while it is busy work collects. A GPU has one stream. A processor has two, which share the
threads of the graphs: where one waits for a core that HTTP has taken, the other goes on. One more thread stacks the
next batch while all streams are busy, if what waits fills one; less is left to grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from service.batches import SharedTime, StackedBatch, halves
from service.costs import Costs
from service.errors import ApiError
from service.fair_queue import Batch, BatchBounds, FairQueue
from service.jobs import Answer, Block, Job, Lane
from tessera.tokenizer import Tokenizer
from tessera.windows import Arrays, Modality

_log = logging.getLogger(__name__)

_WAKE = object()
"""Tells the owner to look again; None in the inbox tells it to end."""


@dataclass(frozen=True, slots=True)
class Model:
    """A tokenizer on a device that it shares with others by `weight`, and what its work costs."""

    name: str
    tokenizer: Tokenizer
    weight: float
    costs: Costs


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one run of the graphs did."""

    model: str
    windows: int
    segments: int
    fill: float
    seconds: float
    modality: Modality
    codes: NDArray[np.int64]  # [windows, time, levels]


class Scheduler:
    """Batches blocks of equal key from concurrent jobs and runs them, one batch at a time on each stream.

    A failing batch is run again in halves until only the culprit fails. When a thread dies, every job that waits
    fails with `device_lost` and so does every later one: no job is left without an answer.
    """

    def __init__(
        self,
        models: Sequence[Model],
        bounds: BatchBounds,
        *,
        stall_seconds: float,
        canary_seconds: float,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.warm = False
        self._models: Mapping[str, Model] = {model.name: model for model in models}
        self._bounds = bounds
        self._stall_seconds = stall_seconds
        self._canary_seconds = canary_seconds
        self._on_batch = on_batch
        self._on_lost = on_lost
        # Of the queue, of the batch that is ready, and of the one in the making.
        self._lock = threading.Lock()
        self._answers = threading.Lock()  # of jobs whose windows run in several streams
        self._queue = FairQueue({model.name: model.weight for model in models}, bounds)
        self._ready: StackedBatch | None = None
        self._stacking = False
        self._outbox: list[tuple[str, Job]] = []  # touched by the event loop only
        self._inbox: SimpleQueue[list[tuple[str, Job]] | object | None] = SimpleQueue()
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._closing = False
        self._died = False
        self._lost = False
        self._time = SharedTime()
        self._warmed = threading.Event()
        self._running: dict[int, float] = {}  # since when, by stream
        self._unanswered: dict[Job, None] = {}  # in order of submission; touched by the event loop only
        self._unanswered_micros = 0
        works = [(f"device-{stream}", partial(self._stream, stream)) for stream in range(bounds.streams)]
        self._streams, (self._stacker,) = (
            [
                threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
                for name, work in some
            ]
            for some in (works, [("stacking", self._stack_ahead)])
        )
        self._left = bounds.streams + 1  # threads that have not ended
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start the threads; to be called in the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        for thread in (*self._streams, self._stacker):
            thread.start()

    def submit(
        self,
        model: str,
        blocks: Sequence[Block],
        *,
        lane: Lane = "interactive",
        full: bool = True,
        deadline: float | None = None,
    ) -> asyncio.Future[Answer]:
        """As `Device.submit`."""
        if self._lost:
            raise _device_lost()
        costs = self._models[model].costs
        micros = [costs.micros(block.modality, block.stage, block.segments) for block in blocks]
        job = Job(
            blocks, micros, self._loop.create_future(), time.perf_counter(), lane, full, deadline=deadline
        )
        self._unanswered[job] = None
        self._unanswered_micros += job.micros
        job.future.add_done_callback(lambda _: self._forget(job))
        if not self._outbox:
            # Requests that were read together go together: one wakes the device, not each.
            self._loop.call_soon(self._send)
        self._outbox.append((model, job))
        return job.future

    def _send(self) -> None:
        jobs, self._outbox = self._outbox, []
        self._inbox.put(jobs)
        if self._busy and self._unanswered_micros > self._bounds.micros:
            self._asked.put(True)

    async def close(self, timeout: float) -> None:
        """Run what was submitted and end the threads; a hung device is left behind after `timeout` seconds."""
        self._loop.call_soon(self._inbox.put, None)
        until = time.perf_counter() + timeout
        for thread in self._streams:
            await asyncio.to_thread(thread.join, max(0.0, until - time.perf_counter()))

    @property
    def alive(self) -> bool:
        """Whether the threads live and the device is not stuck in a batch."""
        since = min(tuple(self._running.values()), default=None)
        stuck = since is not None and time.perf_counter() - since > self._stall_seconds
        return all(thread.is_alive() for thread in self._streams) and not self._lost and not stuck

    @property
    def _busy(self) -> bool:
        """Whether every stream runs a batch."""
        return len(self._running) == len(self._streams)

    @property
    def waiting(self) -> int:
        """Jobs without an answer."""
        return len(self._unanswered)

    @property
    def oldest_sec(self) -> float:
        """Age of the oldest job without an answer."""
        oldest = next(iter(tuple(self._unanswered)), None)
        return 0.0 if oldest is None else time.perf_counter() - oldest.submitted

    def _forget(self, job: Job) -> None:
        if job in self._unanswered:
            del self._unanswered[job]
            self._unanswered_micros -= job.micros
        if not job.future.cancelled():
            job.future.exception()  # now it counts as seen, should its reader be gone

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            _log.critical("a thread of the device died", exc_info=True)
            self._died = True
        finally:
            # One that ends, ends the others.
            self._warmed.set()
            self._asked.put(False)
            self._inbox.put(None)
            with self._lock:
                self._left -= 1
            if self._died or not self._left:
                self._post(self._bury)

    def _stream(self, number: int) -> None:
        if number == 0:
            for model in self._models.values():
                self._warm_up(model)
            self.warm = True
            self._warmed.set()
        self._warmed.wait()
        while stacked := self._next(number):
            self._execute(number, stacked)

    def _warm_up(self, model: Model) -> None:
        """Twice: what the first run takes says little of the others."""
        model.tokenizer.warm_up()
        length = model.tokenizer.manifest.time_grid.window_segments
        for modality, stage, batch in model.tokenizer.idle_batches(length):
            for _ in range(2):
                started = time.perf_counter()
                model.tokenizer.run_batch(modality, stage, batch)
            model.costs.observe(modality, stage, length, time.perf_counter() - started)

    def _next(self, stream: int) -> StackedBatch | None:
        """What runs next; waits while there is nothing, and tries the device now and then; None at the end."""
        while True:
            with self._lock:
                self._collect()
                stacked, self._ready = self._ready, None
                batch = None if stacked or self._stacking else self._take()
                over = self._closing and not self._stacking and not self._queue
                more = bool(self._queue)
            if (stacked or batch) and more and len(self._running) < len(self._streams) - 1:
                self._inbox.put(_WAKE)  # another stream is idle
            if stacked:
                return stacked
            if batch:
                return StackedBatch.of(batch)
            if over:
                return None
            try:
                # One of them tries the device, when it had nothing to do for long.
                self._take_in(self._inbox.get(timeout=self._canary_seconds if stream == 0 else None))
            except Empty:
                self._canary(stream)

    def _collect(self) -> None:
        """Move the inbox into the queue."""
        with contextlib.suppress(Empty):
            while True:
                self._take_in(self._inbox.get_nowait(), locked=True)

    def _take_in(self, item: list[tuple[str, Job]] | object | None, *, locked: bool = False) -> None:
        if item is None:
            self._closing = True
        elif isinstance(item, list):
            with contextlib.nullcontext() if locked else self._lock:
                for model, job in item:
                    self._queue.push(model, job)

    def _take(self, in_seconds: float = 0.0) -> Batch | None:
        """The next batch, which begins in so many seconds."""
        batch, late = self._queue.next_batch(time.perf_counter() + in_seconds)
        if late:
            self._post(_expire, late)
        return batch

    def _stack_ahead(self) -> None:
        while self._is_asked():
            with self._lock:
                # What is taken from the inbox of an idle owner, it would wait for in vain; a busy one looks again.
                if busy := self._busy:
                    self._collect()
                wanted = busy and self._ready is None and self._queue.fills_a_batch
                batch = self._take(self._bounds.seconds / 2) if wanted else None
                self._stacking = batch is not None
            if batch:
                stacked = StackedBatch.of(batch)
                with self._lock:
                    self._ready, self._stacking = stacked, False
            # Also without a batch: the owner may wait for what was collected here.
            self._inbox.put(_WAKE)

    def _is_asked(self) -> bool:
        """Waits until it is; asking often is asking once. False at the end."""
        asked = self._asked.get()
        with contextlib.suppress(Empty):
            while asked:
                asked = self._asked.get_nowait()
        return asked

    def _canary(self, stream: int) -> None:
        """A small batch of each model through its graphs: a device that is broken shows before a client does."""
        for model in self._models.values():
            for modality, stage, batch in model.tokenizer.idle_batches():
                with self._running_in(stream):
                    model.tokenizer.run_batch(modality, stage, batch)

    @contextlib.contextmanager
    def _running_in(self, stream: int) -> Iterator[None]:
        self._running[stream] = time.perf_counter()
        try:
            yield
        finally:
            del self._running[stream]

    def _execute(self, stream: int, stacked: StackedBatch) -> None:
        batch, model = stacked.batch, self._models[stacked.batch.model]
        started = time.perf_counter()
        begun = self._time.begin(started)
        try:
            with self._running_in(stream):
                if self._busy and self._queue.fills_a_batch:
                    self._asked.put(True)
                outputs = model.tokenizer.run_batch(
                    batch.modality, batch.stage, stacked.inputs, full=batch.full
                )
        except Exception as error:
            self._time.end(time.perf_counter(), begun)
            self._divide(stream, batch, error)
            return
        ended = time.perf_counter()
        seconds = self._time.end(ended, begun)
        model.costs.observe(batch.modality, batch.stage, batch.segments, seconds)
        self._scatter(batch, outputs, seconds, (started, ended))
        self._on_batch(
            BatchReport(
                model.name,
                batch.windows,
                batch.segments,
                batch.segments / self._bounds.segments,
                seconds,
                batch.modality,
                outputs["codes"],
            )
        )

    def _divide(self, stream: int, batch: Batch, error: Exception) -> None:
        if batch.windows > 1:
            for half in halves(batch):
                self._execute(stream, StackedBatch.of(half))
            return
        (culprit,) = batch.slices
        with self._answers:
            culprit.fail(error)
            over = not culprit.job.left
        if over:
            self._post(_deliver, [culprit.job])

    def _scatter(self, batch: Batch, outputs: Arrays, seconds: float, run: tuple[float, float]) -> None:
        first = 0
        jobs = list({part.job: None for part in batch.slices})
        with self._answers:
            for part in batch.slices:
                part.answer(outputs, first)
                first += part.count
            for job in jobs:
                job.infer_sec += seconds
                job.runs.append(run)
            complete = [job for job in jobs if not job.left]
        if complete:
            self._post(_deliver, complete)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        # The loop is closed when the process ends without waiting; then nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _bury(self) -> None:
        """On the event loop, where `submit` runs too: so no job can slip in behind the owner's back."""
        newly_dead = self._died and not self._lost
        self._lost = True
        for job in list(self._unanswered):
            if not job.future.done():
                job.future.set_exception(_device_lost())
        if newly_dead:
            self._on_lost()


def _deliver(jobs: list[Job]) -> None:
    now = time.perf_counter()
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.answer(now))


def _expire(jobs: list[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(
                ApiError("deadline_exceeded", "no answer within the time of the request")
            )


def _device_lost() -> ApiError:
    return ApiError("device_lost", "the device of this server stopped working; send this to another replica")
