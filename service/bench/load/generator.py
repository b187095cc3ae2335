"""The generator: a pool of connections, a schedule, and a record of what came back."""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from collections import deque
from itertools import cycle

import numpy as np
import uvloop

from service.bench.load.connection import Connection
from service.bench.load.plan import Closed, Load, Open
from service.bench.load.result import NO_ANSWER, LoadResult
from service.bench.load.timer import timer

CHECK_EVERY = 50
"""One answer of so many is looked at as a whole."""

_IDLE_SEC = 2.0
"""A connection that was idle for longer is not used again: the server may be closing it this moment."""

_OPENED_FIRST = 64
_SAMPLE_BYTES = 300


def generate(load: Load) -> LoadResult:
    """Send `load` from this process and wait for the answers."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Generator(load).run())


class _Record:
    """Every answer, appended as it comes."""

    def __init__(self, load: Load) -> None:
        self.due, self.latency, self.late = array("d"), array("d"), array("d")
        self.status, self.kind = array("h"), array("H")
        self.wrong = self.retry_after = self.held = 0
        self.sample = ""
        self._requests = load.requests

    def add(self, due: float, kind: int, status: int, now: float) -> None:
        self.due.append(due)
        self.latency.append(now - due)
        self.status.append(status)
        self.kind.append(kind)

    def look(self, kind: int, status: int, head: bytes, body: bytes) -> None:
        if status // 100 != 2:
            self.retry_after += status == 503 and b"\r\nretry-after:" in head.lower()
            self.sample = self.sample or body[:_SAMPLE_BYTES].decode(errors="replace")
            return
        request = self._requests[kind]
        right = body.endswith(request.ending)
        if right and request.check is not None and len(self.status) % CHECK_EVERY == 1:
            right = request.check(body)
        if not right:
            self.wrong += 1
            self.sample = body[:_SAMPLE_BYTES].decode(errors="replace")

    def result(self, started: float, seconds: float, cpu_sec: float) -> LoadResult:
        return LoadResult(
            due=np.array(self.due) - started,
            latency=np.array(self.latency),
            status=np.array(self.status),
            kind=np.array(self.kind),
            late=np.array(self.late),
            held=self.held,
            wrong=self.wrong,
            retry_after=self.retry_after,
            sample=self.sample,
            seconds=seconds,
            cpu_sec=cpu_sec,
        )


class _Generator:
    """Takes requests up when they are due, and connections from a stack: the one used last is used next."""

    def __init__(self, load: Load) -> None:
        host, port = load.address
        self._load = load
        self._address = host, port
        self._wire = [request.rendered(f"{host}:{port}") for request in load.requests]
        self._record = _Record(load)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[float, int]] = deque()
        self._unanswered = 0
        self._until = 0.0
        self._kinds = cycle(load.order(997))
        self._sent_all = asyncio.Event()
        self._answered_all = asyncio.Event()

    async def run(self) -> LoadResult:
        arrivals = self._load.arrivals
        most = (
            arrivals.in_flight if isinstance(arrivals, Closed) else min(_OPENED_FIRST, self._load.connections)
        )
        await asyncio.gather(*(self._connect() for _ in range(most)))
        gc.collect()
        gc.freeze()
        cpu, started = time.process_time(), time.monotonic()
        if isinstance(arrivals, Closed):
            await self._closed(arrivals, started)
        else:
            await self._scheduled(arrivals, started)
        await self._last_answers()
        cpu_sec = time.process_time() - cpu
        gc.unfreeze()
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)
        return self._record.result(started, self._seconds(arrivals, started), cpu_sec)

    def _seconds(self, arrivals: Closed | Open, started: float) -> float:
        """How long the server was kept busy: in a closed loop, until the last answer."""
        if isinstance(arrivals, Open) or not self._record.due:
            return arrivals.seconds
        ends = np.array(self._record.due) + np.array(self._record.latency)
        return float(ends.max()) - started

    async def _closed(self, arrivals: Closed, started: float) -> None:
        self._until = started + arrivals.seconds
        for _ in range(arrivals.in_flight):
            self._take_up(started, next(self._kinds))
        await asyncio.sleep(arrivals.seconds)
        self._sent_all.set()

    async def _scheduled(self, arrivals: Open, started: float) -> None:
        due = (arrivals.due() + started).tolist()
        position, late, kinds = 0, self._record.late, self._kinds

        def send_due() -> None:
            nonlocal position
            now = time.monotonic()
            while position < len(due) and due[position] <= now:
                late.append(now - due[position])
                self._take_up(due[position], next(kinds))
                position += 1
                now = time.monotonic()
            if position < len(due):
                clock.arm(due[position])
            else:
                self._sent_all.set()

        clock = timer(asyncio.get_running_loop(), send_due)
        clock.arm(due[0])
        await self._sent_all.wait()
        clock.close()

    async def _last_answers(self) -> None:
        if self._unanswered:
            try:
                await asyncio.wait_for(self._answered_all.wait(), self._load.patience)
            except TimeoutError:
                self._give_up()

    def _give_up(self) -> None:
        for task in self._opening:
            task.cancel()
        while self._waiting:
            self._fail(*self._waiting.popleft())
        for connection in list(self._open):
            if (unanswered := connection.abandon()) is not None:
                self._fail(*unanswered)

    def _take_up(self, due: float, kind: int) -> None:
        self._unanswered += 1
        idle = self._idle
        while idle:
            connection = idle.pop()
            if time.monotonic() - connection.idle_since < _IDLE_SEC:
                connection.send(self._wire[kind], due, kind)
                return
            connection.close()
        self._waiting.append((due, kind))
        self._record.held += not self._open_another()

    def _open_another(self) -> bool:
        if len(self._open) + len(self._opening) >= self._load.connections:
            return False
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _connect(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), *self._address
            )
        except OSError:
            if self._waiting:
                self._fail(*self._waiting.popleft())
            return
        connection.idle_since = time.monotonic()
        self._open.add(connection)
        self._reuse(connection)

    def _reuse(self, connection: Connection) -> None:
        if self._waiting:
            due, kind = self._waiting.popleft()
            connection.send(self._wire[kind], due, kind)
        else:
            self._idle.append(connection)

    def answered(
        self, connection: Connection, due: float, kind: int, status: int, head: bytes, body: bytes
    ) -> None:
        """Of the connection."""
        now = connection.idle_since
        self._record.add(due, kind, status, now)
        self._record.look(kind, status, head, body)
        if connection.usable:
            self._reuse(connection)
        self._one_less(now)

    def lost(self, connection: Connection, unanswered: tuple[float, int] | None) -> None:
        """Of the connection."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if unanswered is not None:
            self._fail(*unanswered)
        if self._waiting:
            self._open_another()

    def _fail(self, due: float, kind: int) -> None:
        now = time.monotonic()
        self._record.add(due, kind, NO_ANSWER, now)
        self._one_less(now)

    def _one_less(self, now: float) -> None:
        self._unanswered -= 1
        if now < self._until:
            self._take_up(now, next(self._kinds))
        elif not self._unanswered and self._sent_all.is_set():
            self._answered_all.set()
