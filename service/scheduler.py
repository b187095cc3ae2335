"""The threads of a device, and how work reaches it and comes back.

The event loop puts jobs into an inbox and never waits. One thread owns the device: it runs batch after batch, an idle
device at once with whatever is there, a busy one collects. A second one stacks the next batch while the device is busy,
if what waits fills one; less is left to grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from service.costs import Costs
from service.errors import ApiError
from service.fair_queue import Batch, BatchBounds, FairQueue
from service.jobs import Answer, Block, Job, Lane
from tessera.tokenizer import Tokenizer
from tessera.windows import Arrays

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


@dataclass(slots=True)
class _Stacked:
    """A batch with its inputs in one piece each."""

    batch: Batch
    inputs: Arrays

    @classmethod
    def of(cls, batch: Batch) -> _Stacked:
        parts = [part.inputs for part in batch.slices]
        if len(parts) == 1:
            return cls(batch, parts[0])
        return cls(batch, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


class Scheduler:
    """Batches blocks of equal key from concurrent jobs and runs them, one batch at a time, on one thread.

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
        self._lock = (
            threading.Lock()
        )  # of the queue, of the batch that is ready, and of the one in the making
        self._queue = FairQueue({model.name: model.weight for model in models}, bounds)
        self._ready: _Stacked | None = None
        self._stacking = False
        self._outbox: list[tuple[str, Job]] = []  # touched by the event loop only
        self._inbox: SimpleQueue[list[tuple[str, Job]] | object | None] = SimpleQueue()
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._closing = False
        self._lost = False
        self._running_since: float | None = None
        self._unanswered: dict[Job, None] = {}  # in order of submission; touched by the event loop only
        self._unanswered_micros = 0
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("device", self._own_device), ("stacking", self._stack_ahead))
        ]
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start the threads; to be called in the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
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
        if self._running_since is not None and self._unanswered_micros > self._bounds.micros:
            self._asked.put(True)

    async def close(self, timeout: float) -> None:
        """Run what was submitted and end the threads; a hung device is left behind after `timeout` seconds."""
        self._loop.call_soon(self._inbox.put, None)
        await asyncio.to_thread(self._threads[0].join, timeout)

    @property
    def alive(self) -> bool:
        """Whether the threads live and the device is not stuck in a batch."""
        since = self._running_since
        stuck = since is not None and time.perf_counter() - since > self._stall_seconds
        return self._threads[0].is_alive() and not self._lost and not stuck

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
        finally:
            self._asked.put(False)
            self._post(self._bury)

    def _own_device(self) -> None:
        for model in self._models.values():
            self._warm_up(model)
        self.warm = True
        while stacked := self._next():
            self._execute(stacked)

    def _warm_up(self, model: Model) -> None:
        """Twice: what the first run takes says little of the others."""
        model.tokenizer.warm_up()
        length = model.tokenizer.manifest.time_grid.window_segments
        for modality, stage, batch in model.tokenizer.idle_batches(length):
            for _ in range(2):
                started = time.perf_counter()
                model.tokenizer.run_batch(modality, stage, batch)
            model.costs.observe(modality, stage, length, time.perf_counter() - started)

    def _next(self) -> _Stacked | None:
        """What runs next; waits while there is nothing, and tries the device now and then; None at the end."""
        while True:
            with self._lock:
                self._collect()
                stacked, self._ready = self._ready, None
                batch = None if stacked or self._stacking else self._take()
                over = self._closing and not self._stacking and not self._queue
            if stacked:
                return stacked
            if batch:
                return _Stacked.of(batch)
            if over:
                return None
            try:
                self._take_in(self._inbox.get(timeout=self._canary_seconds))
            except Empty:
                self._canary()

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

    def _take(self) -> Batch | None:
        batch, late = self._queue.next_batch(time.perf_counter())
        if late:
            self._post(_expire, late)
        return batch

    def _stack_ahead(self) -> None:
        while self._is_asked():
            with self._lock:
                # What is taken from the inbox of an idle owner, it would wait for in vain; a busy one looks again.
                busy = self._running_since is not None
                if busy:
                    self._collect()
                wanted = busy and self._ready is None and self._queue.fills_a_batch
                batch = self._take() if wanted else None
                self._stacking = batch is not None
            if batch:
                stacked = _Stacked.of(batch)
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

    def _canary(self) -> None:
        """A small batch of each model through its graphs: a device that is broken shows before a client does."""
        for model in self._models.values():
            for modality, stage, batch in model.tokenizer.idle_batches():
                with self._busy():
                    model.tokenizer.run_batch(modality, stage, batch)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._running_since = time.perf_counter()
        try:
            yield
        finally:
            self._running_since = None

    def _execute(self, stacked: _Stacked) -> None:
        batch, model = stacked.batch, self._models[stacked.batch.model]
        started = time.perf_counter()
        try:
            with self._busy():
                if self._queue.fills_a_batch:
                    self._asked.put(True)
                outputs = model.tokenizer.run_batch(
                    batch.modality, batch.stage, stacked.inputs, full=batch.full
                )
        except Exception as error:
            self._divide(batch, error)
            return
        seconds = time.perf_counter() - started
        model.costs.observe(batch.modality, batch.stage, batch.segments, seconds)
        self._scatter(batch, outputs, seconds)
        self._on_batch(
            BatchReport(
                model.name, batch.windows, batch.segments, batch.segments / self._bounds.segments, seconds
            )
        )

    def _divide(self, batch: Batch, error: Exception) -> None:
        if batch.windows == 1:
            (culprit,) = batch.slices
            culprit.fail(error)
            self._settle([culprit.job])
            return
        for half in _halves(batch):
            self._execute(_Stacked.of(half))

    def _scatter(self, batch: Batch, outputs: Arrays, seconds: float) -> None:
        first = 0
        for part in batch.slices:
            part.answer(outputs, first)
            first += part.count
        jobs = list({part.job: None for part in batch.slices})
        for job in jobs:
            job.infer_sec += seconds
        self._settle(jobs)

    def _settle(self, jobs: list[Job]) -> None:
        complete = [job for job in jobs if not job.left]
        if complete:
            self._post(_deliver, complete)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        # The loop is closed when the process ends without waiting; then nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _bury(self) -> None:
        """On the event loop, where `submit` runs too: so no job can slip in behind the owner's back."""
        unexpected = not (self._lost or self._closing)
        self._lost = True
        for job in list(self._unanswered):
            if not job.future.done():
                job.future.set_exception(_device_lost())
        if unexpected:
            self._on_lost()


def _halves(batch: Batch) -> list[Batch]:
    """The same windows as two batches."""
    left, right = Batch(batch.model, batch.key), Batch(batch.model, batch.key)
    room = batch.windows // 2
    for part in batch.slices:
        if part.count <= room:
            left.add(part)
            room -= part.count
            continue
        if room:
            left.add(part.split(room))
            room = 0
        right.add(part)
    return [left, right]


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
