"""The devices as a front end sees them: jobs go to the owner in frames, answers come back."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.errors import ApiError
from service.frontends.board import Board
from service.frontends.frame import AnswerFrame, FailureFrame, Frame, JobFrame, Kind, PlainFrame
from service.frontends.transport import FrameProtocol
from service.jobs import Answer, Block, Lane


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job without an answer."""

    device: int
    future: asyncio.Future[Answer]
    submitted: float


class OwnerLink:
    """The connection of a front end to the owner of the devices.

    When it breaks, the owner is lost: every job that waits fails with `device_lost`, and so does every later one.
    """

    def __init__(self, metrics: Callable[[], bytes], on_lost: Callable[[], None]) -> None:
        """`metrics` are those of this process, for the owner to add up."""
        self._metrics = metrics
        self._on_lost = on_lost
        self._protocol = FrameProtocol(self._received, self._lost)
        self._numbers = itertools.count(1)
        self._jobs: dict[int, _Waiting] = {}
        self._questions: dict[int, asyncio.Future[bytes]] = {}

    async def connect(self, end: socket.socket) -> None:
        """Begin to talk."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._protocol, sock=end)

    @property
    def open(self) -> bool:
        """Whether the owner is there."""
        return self._protocol.open

    def listening(self) -> None:
        """Tell the owner that connections are taken."""
        self._protocol.send(PlainFrame(Kind.LISTENING))

    def waiting(self, device: int) -> list[_Waiting]:
        """Jobs of a device without an answer, in order of submission."""
        return [each for each in self._jobs.values() if each.device == device]

    def submit(
        self,
        device: int,
        model: int,
        blocks: Sequence[Block],
        lane: Lane,
        full: bool,
        deadline: float | None,
    ) -> asyncio.Future[Answer]:
        """As `Device.submit`."""
        if not self.open:
            raise _owner_lost()
        job, now = next(self._numbers), time.perf_counter()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._jobs[job] = _Waiting(device, future, now)
        future.add_done_callback(lambda _: self._forget(job, future))
        left = math.inf if deadline is None else deadline - now
        self._protocol.send(JobFrame(job, model, lane, full, left, blocks))
        return future

    async def exposition(self) -> bytes:
        """The metrics of all processes together.

        Raises:
            ApiError: `device_lost`.
        """
        if not self.open:
            raise _owner_lost()
        question = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._questions[question] = answer
        try:
            self._protocol.send(PlainFrame(Kind.ASK, question))
            return await answer
        finally:
            del self._questions[question]

    async def close(self) -> None:
        """Hang up."""
        self._on_lost = lambda: None
        self._protocol.close()

    def _received(self, frame: Frame) -> None:
        match frame:
            case AnswerFrame(job, answer):
                if (waiting := self._jobs.get(job)) and not waiting.future.done():
                    waiting.future.set_result(answer)
            case FailureFrame(job, error):
                if (waiting := self._jobs.get(job)) and not waiting.future.done():
                    waiting.future.set_exception(error)
            case PlainFrame(Kind.ASK, question):
                self._protocol.send(PlainFrame(Kind.TEXT, question, self._metrics()))
            case PlainFrame(Kind.TEXT, question, text):
                if (asked := self._questions.get(question)) and not asked.done():
                    asked.set_result(text)

    def _forget(self, job: int, future: asyncio.Future[Answer]) -> None:
        del self._jobs[job]
        if future.cancelled():
            self._protocol.send(PlainFrame(Kind.CANCEL, job))
        else:
            future.exception()  # now it counts as seen, should its reader be gone

    def _lost(self) -> None:
        futures: list[asyncio.Future[Any]] = [each.future for each in self._jobs.values()]
        for future in (*futures, *self._questions.values()):
            if not future.done():
                future.set_exception(_owner_lost())
        self._on_lost()


class RemoteDevice:
    """One device of the owner, as `service.device.Device`."""

    def __init__(
        self, link: OwnerLink, board: Board, number: int, models: Mapping[str, int], stall_seconds: float
    ) -> None:
        """`number` is its place among the devices; `models` are the numbers of those that it runs."""
        self._link = link
        self._board = board
        self._number = number
        self._models = models
        self._stall_seconds = stall_seconds

    @property
    def warm(self) -> bool:
        """As the owner says."""
        return self._board.warm(self._number)

    @property
    def alive(self) -> bool:
        """As the owner says, if it still says anything."""
        talks = self._link.open and self._board.beat_age < self._stall_seconds
        return talks and self._board.alive(self._number)

    @property
    def waiting(self) -> int:
        """Jobs of this process without an answer."""
        return len(self._link.waiting(self._number))

    @property
    def oldest_sec(self) -> float:
        """Age of the oldest of them."""
        waiting = self._link.waiting(self._number)
        return time.perf_counter() - waiting[0].submitted if waiting else 0.0

    def start(self) -> None:
        """The owner began it."""

    async def close(self, timeout: float) -> None:
        """Wait until what was submitted is answered."""
        futures = [each.future for each in self._link.waiting(self._number)]
        if futures:
            with suppress(TimeoutError):
                await asyncio.wait(futures, timeout=timeout)

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
        return self._link.submit(self._number, self._models[model], blocks, lane, full, deadline)


def _owner_lost() -> ApiError:
    return ApiError("device_lost", "the device of this server stopped working; send this to another replica")
