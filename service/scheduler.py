"""The thread that owns the device, and how work reaches it and comes back.

The event loop puts jobs into an inbox and never waits; the owner thread keeps its queue to itself, so there
are no locks. An idle device starts at once with whatever is there; while it is busy, the inbox collects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from service.errors import ApiError
from service.jobs import Answer, Job, Slice, WindowQueue
from tessera.windows import Window, WindowCodes

_log = logging.getLogger(__name__)


class GraphFailed(Exception):
    """The graphs failed on the windows of this job and of no other; the cause is the reason."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one run of the graphs did."""

    windows: int
    segments: int
    seconds: float


class Scheduler:
    """Batches windows of equal key from concurrent jobs and runs them, one batch at a time, on one thread.

    A failing batch is run again in halves until only the culprit fails. When the owner thread dies, every job
    that waits fails with `device_lost` and so does every later one: no job is left without an answer.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Window]], list[WindowCodes]],
        *,
        max_batch_segments: int,
        stall_seconds: float,
        warm_up: Callable[[], None] = lambda: None,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
    ) -> None:
        self.warm = False
        self._run = run
        self._stall_seconds = stall_seconds
        self._warm_up = warm_up
        self._on_batch = on_batch
        self._queue = WindowQueue(max_batch_segments)
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = False
        self._lost = False
        self._unanswered: dict[Job, None] = {}  # in order of submission; touched by the event loop only
        self._running_since: float | None = None
        self._thread = threading.Thread(target=self._own_device, name="device", daemon=True)
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start the owner thread; to be called in the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, windows: Sequence[Window]) -> asyncio.Future[Answer]:
        """The answer for `windows`, once all of them ran. Cancel the future and what has not run is dropped.

        Raises:
            ApiError: `device_lost`.
            GraphFailed: from the future, when the graphs cannot run these windows.
        """
        if self._lost:
            raise _device_lost()
        job = Job(windows, self._loop.create_future())
        self._unanswered[job] = None
        job.future.add_done_callback(lambda _: self._forget(job))
        self._inbox.put(job)
        return job.future

    async def close(self, timeout: float) -> None:
        """Run what was submitted and end the thread; a hung device is left behind after `timeout` seconds."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, timeout)

    @property
    def alive(self) -> bool:
        """Whether the owner thread lives and is not stuck in a batch."""
        since = self._running_since
        stuck = since is not None and time.perf_counter() - since > self._stall_seconds
        return self._thread.is_alive() and not self._lost and not stuck

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
        self._unanswered.pop(job, None)
        if not job.future.cancelled():
            job.future.exception()  # now it counts as seen, should its reader be gone

    def _own_device(self) -> None:
        try:
            self._warm_up()
            self.warm = True
            while self._collect():
                if batch := self._queue.next_batch():
                    self._execute(batch)
        except BaseException:
            _log.critical("the device thread died", exc_info=True)
        finally:
            self._post(self._bury)

    def _collect(self) -> bool:
        """Move the inbox into the queue, waiting only when there is nothing to do; false when all is done."""
        wait = not self._queue and not self._closing
        with contextlib.suppress(Empty):
            while True:
                job = self._inbox.get(block=wait)
                wait = False
                if job is None:
                    self._closing = True
                else:
                    self._queue.push(job)
        return bool(self._queue) or not self._closing

    def _execute(self, batch: list[Slice]) -> None:
        windows = [window for part in batch for window in part.windows]
        self._running_since = started = time.perf_counter()
        try:
            answers = self._run(windows)
        except Exception as error:
            self._divide(batch, error)
            return
        finally:
            self._running_since = None
        seconds = time.perf_counter() - started
        self._scatter(batch, answers, seconds)
        self._on_batch(BatchReport(len(windows), sum(window.segments for window in windows), seconds))

    def _divide(self, batch: list[Slice], error: Exception) -> None:
        if len(batch) == 1:
            job = batch[0].job
            job.failed = True
            self._post(_fail, job, error)
            return
        middle = len(batch) // 2
        self._execute(batch[:middle])
        self._execute(batch[middle:])

    def _scatter(self, batch: list[Slice], answers: list[WindowCodes], seconds: float) -> None:
        complete = []
        first = 0
        for part in batch:
            job, count = part.job, len(part.positions)
            for position, answer in zip(part.positions, answers[first : first + count], strict=True):
                job.answers[position] = answer
            first += count
            job.unanswered -= count
            job.infer_sec += seconds
            if job.unanswered == 0:
                complete.append(job)
        if complete:
            self._post(_deliver, complete)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        # The loop is closed when the process ends without waiting; then nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _bury(self) -> None:
        """On the event loop, where `submit` runs too: so no job can slip in behind the owner's back."""
        self._lost = True
        for job in list(self._unanswered):
            if not job.future.done():
                job.future.set_exception(_device_lost())


def _deliver(jobs: list[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.answer())


def _fail(job: Job, error: Exception) -> None:
    if not job.future.done():
        failure = GraphFailed("the graphs failed on this input")
        failure.__cause__ = error
        job.future.set_exception(failure)


def _device_lost() -> ApiError:
    return ApiError("device_lost", "the device of this server stopped working; send this to another replica")
