"""A front end: the whole HTTP application and decoding, without graphs. The owner of the devices starts it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from service.app import assembled
from service.cache import cache_of
from service.decoding import decoding_of
from service.engine import Engine
from service.errors import DeviceLost, StartError
from service.frontends.board import Board
from service.frontends.plan import Plan, PlannedModel
from service.frontends.remote import OwnerLink, RemoteDevice
from service.logs import say_last
from service.metrics import Metrics
from service.security.fetcher import Fetcher
from service.security.key_ring import KeyRing
from service.security.protection import Protection
from service.server import DrainingServer, begin_process
from service.serving import Served, admission_of
from service.settings import Settings
from service.tracing import tracing_here
from tessera.bundle import Bundle
from tessera.devices import Device as Place
from tessera.errors import TesseraError
from tessera.opener import ClipOpener


def run_front_end(plan: Plan, own: int, listener: socket.socket, link_end: socket.socket, board: int) -> None:
    """Serve until SIGTERM, then finish what was admitted.

    Raises:
        BundleError: a bundle is damaged.
        StartError: a bundle is not the one that the owner loaded.
        DeviceLost: the owner is gone; whoever waited was told.
    """
    settings = Settings(**plan.settings)
    begin_process(settings)
    metrics = Metrics()
    cache = cache_of(settings, _share(settings.cache_bytes, own, settings), metrics.registry)
    shared = Board(board, plan.shape(settings), settings, own)
    openers = [_opener(model, settings) for model in plan.models]
    link: OwnerLink

    @asynccontextmanager
    async def run_engine(lost: asyncio.Event) -> AsyncIterator[Engine]:
        nonlocal link
        link = OwnerLink(metrics.exposition, lost.set)
        await link.connect(link_end)
        engine = Engine(
            _served(plan, openers, link, shared, settings),
            settings,
            metrics,
            decoding=decoding_of(settings, _share(settings.workers, own, settings)),
            open_media=_share(settings.max_open_media, own, settings),
            cache=cache,
        )
        engine.start()
        yield engine
        await engine.close()
        await link.close()

    fetcher = Fetcher(settings, metrics, at_once=_share(settings.max_open_urls, own, settings))
    protection = Protection(KeyRing.of(settings), shared.key_rates, fetcher)
    app = assembled(
        settings,
        metrics,
        shared.bodies,
        protection,
        run_engine,
        lambda: link.exposition(),
        tracing_here(own),
    )
    server = DrainingServer(
        app,
        settings,
        lambda: link.listening(),
        connections=_share(settings.max_connections, own, settings),
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn takes signals, and after: it raises them again.
    signal.signal(signal.SIGTERM, stop)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if app.state.lost.is_set():
        raise DeviceLost("the process that owns the device is gone, so this front end ended")


def _opener(model: PlannedModel, settings: Settings) -> ClipOpener:
    bundle = Bundle.load(model.folder)
    if bundle.revision != model.revision:
        raise StartError(f"the bundle of '{model.name}' changed since it was loaded: start the server again")
    return ClipOpener(bundle, settings.limits)


def _served(
    plan: Plan, openers: list[ClipOpener], link: OwnerLink, board: Board, settings: Settings
) -> list[Served]:
    numbers = {model.name: number for number, model in enumerate(plan.models)}
    devices = [RemoteDevice(link, board, n, numbers, settings.stall_seconds) for n in range(plan.devices)]
    rooms = board.rooms
    admissions = [
        admission_of(settings, Place.parse(place), micros, rooms.data)
        for place, micros in zip(plan.places, rooms.micros, strict=True)
    ]
    return [
        Served(
            model.name,
            opener,
            devices[model.device],
            admissions[model.device],
            board.costs(numbers[model.name]),
            model.providers,
        )
        for model, opener in zip(plan.models, openers, strict=True)
    ]


def _share(whole: int, own: int, settings: Settings) -> int:
    """The part of this front end; all parts together are the whole, or one each."""
    each, rest = divmod(whole, settings.frontends)
    return max(1, each + (own < rest))


def main() -> None:
    """`python -m service.frontends.process NUMBER LISTENER LINK BOARD`, the plan on stdin."""
    own, listener, link_end, board = map(int, sys.argv[1:])
    plan = Plan.model_validate_json(sys.stdin.buffer.read())
    try:
        run_front_end(plan, own, socket.socket(fileno=listener), socket.socket(fileno=link_end), board)
    except TesseraError as error:
        say_last(error)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
