"""The process that owns the devices, and keeps the front ends before it alive.

Each front end has a listening socket of its own on the one port; this process keeps them open, so that connections wait
for a front end that is started again instead of being lost with it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import uvloop
from prometheus_client import Metric

from service.bundles import LoadedBundle, load_bundles
from service.decoding.threads import ThreadDecoding
from service.engine import Engine
from service.errors import DeviceLost, FrontEndsLost, StartError
from service.frontends.board import Board
from service.frontends.families import Families, added, exposition_of, families_of, lasting
from service.frontends.front_end import FrontEnd
from service.frontends.jobs import FrontEndJobs
from service.frontends.plan import Plan
from service.metrics import Metrics
from service.security.key_ring import KeyRing
from service.server import admin, begin_process, greeting, listen
from service.serving import serve_here
from service.settings import Settings
from service.tracing import require_tracing

_log = logging.getLogger(__name__)
_BEAT_SEC = 0.1
_SOON_SEC = 10.0
"""A front end that dies twice within this time is not started a third time."""
_GRACE_SEC = 15.0
"""Beyond the time for draining, for the process to end."""


def serve_with_front_ends(
    settings: Settings, load: Callable[[Settings], Sequence[LoadedBundle]] = load_bundles
) -> None:
    """Serve what `load` loads until SIGTERM or Ctrl-C, then let every front end finish what was admitted.

    Raises:
        StartError: the address is taken, or the system is not Linux.
        BundleError: no bundle, or a damaged one.
        RuntimeUnavailable: the device is not there.
        DeviceLost: a device died while it served; whoever waited was told.
        FrontEndsLost: a front end died again and again.
    """
    if sys.platform != "linux":
        raise StartError("several front ends need Linux; leave --frontends out")
    begin_process(settings)
    require_tracing()
    listeners = _listeners(settings)
    keys = KeyRing.of(settings)
    bundles = load(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Supervisor(settings, bundles, listeners, keys).run())


def _listeners(settings: Settings) -> list[socket.socket]:
    """One for each front end, on one port that nobody else has."""
    # Sockets that share a port would also share it with those of another server.
    with listen(settings.host, settings.port) as alone:
        port = alone.getsockname()[1]
    return [listen(settings.host, port, shared=True) for _ in range(settings.frontends)]


class _Supervisor:
    """Belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        bundles: Sequence[LoadedBundle],
        listeners: Sequence[socket.socket],
        keys: KeyRing | None,
    ) -> None:
        plan = Plan.of(settings, bundles)
        self._plan = plan.model_dump_json().encode()
        self._settings = settings
        self._keys = keys
        self._listeners = listeners
        self._board = Board.made(plan.shape(settings), settings)
        self._stopping = asyncio.Event()
        self._lost = asyncio.Event()
        self._metrics = Metrics()
        numbers = {bundle.name: number for number, bundle in enumerate(bundles)}
        models = serve_here(
            bundles,
            settings,
            self._board.rooms,
            costs=lambda name: self._board.costs(numbers[name]),
            on_batch=self._metrics.batch,
            on_lost=self._lost.set,
        )
        self._models = models
        # It decodes nothing: its front ends do.
        self._engine = Engine(models, settings, self._metrics, decoding=ThreadDecoding(1))
        self._metrics.watch(self._engine, self._board.bodies)
        self._front_ends: dict[int, FrontEnd] = {}
        self._greeted: set[int] = set()
        self._told: dict[int, list[Metric]] = {}
        self._past: list[Metric] = []

    async def run(self) -> None:
        """Until a signal, or until something is lost that cannot be replaced."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._engine.start()
        self._show()
        registry = Families(lambda: asyncio.run_coroutine_threadsafe(self._families(), loop).result())
        with admin(self._settings, registry):
            beats = asyncio.create_task(self._beat())
            ends = [asyncio.create_task(event.wait()) for event in (self._stopping, self._lost)]
            keepers = [asyncio.create_task(self._keep(n)) for n in range(self._settings.frontends)]
            await asyncio.wait([*ends, *keepers], return_when=asyncio.FIRST_COMPLETED)
            await self._end()
            for task in ends:
                task.cancel()
            results = await asyncio.gather(*keepers, return_exceptions=True)
            await self._engine.close()
            beats.cancel()
        if self._lost.is_set():
            raise DeviceLost("the device stopped working, so the server ended; its log says why")
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _end(self) -> None:
        """Drain; of a lost device there is nothing to drain, and a front end that is not told so ends by itself."""
        self._stopping.set()
        self._engine.draining = True
        for listener in self._listeners:
            listener.close()
        seconds: float | None = (
            self._settings.shutdown_delay_seconds + self._settings.drain_seconds + _GRACE_SEC
        )
        if self._lost.is_set():
            for front_end in self._front_ends.values():
                front_end.jobs.protocol.close()
            seconds = None
        await asyncio.gather(*(each.stopped(seconds) for each in list(self._front_ends.values())))

    async def _keep(self, number: int) -> None:
        """Run a front end, and another when it dies."""
        loop, died = asyncio.get_running_loop(), -math.inf
        while not self._stopping.is_set():
            jobs = FrontEndJobs(self._models, self._exposition)
            front_end = await FrontEnd.started(
                number, self._plan, self._listeners[number], self._board.descriptor, jobs
            )
            self._front_ends[number] = front_end
            if self._stopping.is_set():
                front_end.process.terminate()
            said = asyncio.create_task(self._greet(number, jobs))
            status = await front_end.process.wait()
            said.cancel()
            self._bury(number)
            if self._stopping.is_set():
                return
            if not jobs.listening.is_set() or loop.time() - died < _SOON_SEC:
                raise FrontEndsLost("a front end does not stay alive, so the server ended; its log says why")
            died = loop.time()
            _log.error("front end %d ended with status %d; it is started again", number + 1, status)

    async def _greet(self, number: int, jobs: FrontEndJobs) -> None:
        """Say that the server listens, once all front ends do."""
        await jobs.listening.wait()
        if number not in self._greeted:
            self._greeted.add(number)
            if len(self._greeted) == self._settings.frontends:
                greeting(
                    [model.name for model in self._models], self._listeners[0], self._settings, self._keys
                )

    def _bury(self, number: int) -> None:
        """Give back what a dead front end held; what it counted stays counted."""
        front_end = self._front_ends.pop(number)
        front_end.jobs.protocol.close()
        self._board.clear(number)
        self._past = added([self._past, lasting(self._told.pop(number, []))])

    async def _families(self) -> list[Metric]:
        """The metrics of all processes."""
        asked = dict(self._front_ends)
        texts = await asyncio.gather(*(each.jobs.metrics() for each in asked.values()))
        for (number, front_end), text in zip(asked.items(), texts, strict=True):
            if text is not None and self._front_ends.get(number) is front_end:
                self._told[number] = families_of(text)
        own = families_of(self._metrics.exposition())
        return added([own, self._past, *self._told.values()])

    async def _exposition(self) -> bytes:
        return exposition_of(await self._families())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SEC)
            self._show()

    def _show(self) -> None:
        for number, device in enumerate(self._engine.devices):
            self._board.show(number, warm=device.warm, alive=device.alive)
        self._board.beat()
