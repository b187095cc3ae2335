"""The work of one front end, in the process that owns the devices."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from service.errors import ApiError
from service.frontends.frame import AnswerFrame, FailureFrame, Frame, JobFrame, Kind, PlainFrame
from service.frontends.transport import FrameProtocol
from service.jobs import Answer
from service.serving import Served

_log = logging.getLogger(__name__)
_TELLING_SEC = 5.0
"""How long a front end may take to tell its metrics."""


class FrontEndJobs:
    """Submits what a front end sends and answers it. When the front end is gone, so is what it waited for."""

    def __init__(self, models: Sequence[Served], exposition: Callable[[], Awaitable[bytes]]) -> None:
        """`models` by number; `exposition` is that of all processes."""
        self.protocol = FrameProtocol(self._received, self._gone)
        self.listening = asyncio.Event()
        self._models = models
        self._exposition = exposition
        self._futures: dict[int, asyncio.Future[Answer]] = {}
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count(1)
        self._told: set[asyncio.Task[None]] = set()

    async def metrics(self) -> bytes | None:
        """Those of the front end; None if it does not tell."""
        if not (self.listening.is_set() and self.protocol.open):
            return None
        question = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._questions[question] = answer
        self.protocol.send(PlainFrame(Kind.ASK, question))
        try:
            async with asyncio.timeout(_TELLING_SEC):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._questions[question]

    def _received(self, frame: Frame) -> None:
        match frame:
            case JobFrame():
                self._submit(frame)
            case PlainFrame(Kind.CANCEL, job):
                if future := self._futures.get(job):
                    future.cancel()
            case PlainFrame(Kind.ASK, question):
                task = asyncio.ensure_future(self._tell(question))
                self._told.add(task)
                task.add_done_callback(self._told.discard)
            case PlainFrame(Kind.TEXT, question, text):
                if (asked := self._questions.get(question)) and not asked.done():
                    asked.set_result(text)
            case PlainFrame(Kind.LISTENING):
                self.listening.set()

    def _submit(self, frame: JobFrame) -> None:
        model = self._models[frame.model]
        deadline = None if math.isinf(frame.seconds_left) else time.perf_counter() + frame.seconds_left
        try:
            future = model.device.submit(
                model.name, frame.blocks, lane=frame.lane, full=frame.full, deadline=deadline
            )
        except ApiError as error:
            self.protocol.send(FailureFrame(frame.job, error))
            return
        self._futures[frame.job] = future
        future.add_done_callback(partial(self._answer, frame.job))

    def _answer(self, job: int, future: asyncio.Future[Answer]) -> None:
        del self._futures[job]
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            known = error if isinstance(error, ApiError) else ApiError.internal()
            self.protocol.send(FailureFrame(job, known))
        else:
            answer = future.result()
            for failure in (each for block in answer.blocks for each in block.failures.values()):
                _log.error("a window failed", exc_info=failure)
            self.protocol.send(AnswerFrame(job, answer))

    async def _tell(self, question: int) -> None:
        self.protocol.send(PlainFrame(Kind.TEXT, question, await self._exposition()))

    def _gone(self) -> None:
        for future in list(self._futures.values()):
            future.cancel()
        for question in self._questions.values():
            question.cancel()
