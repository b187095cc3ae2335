"""The application: routes, middleware, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission import OwnRoom, Room
from service.api import embeddings, health, models, tokenize
from service.api.answers import add_error_handlers
from service.api.direct import DirectRoutes
from service.bundles import LoadedBundle, load_bundles
from service.cache import cache_of
from service.contract import API_VERSION, document_of
from service.costs import Costs
from service.decoding import decoding_of
from service.decoding.reading import Decoding
from service.engine import Engine
from service.metrics import Metrics
from service.middleware import BodyLimit, Deadline, RequestContext, TooMany
from service.security.guard import Guard
from service.security.protection import Protection
from service.serving import Rooms, places_of, serve_here
from service.settings import Settings
from service.tracing import Tracing


class Application:
    """An ASGI application. What surrounds every request is around the framework: the busiest routes do without it."""

    def __init__(
        self,
        api: FastAPI,
        settings: Settings,
        metrics: Metrics,
        held: Room,
        protection: Protection,
        tracing: Tracing | None,
    ) -> None:
        self.api = api
        self.state = api.state
        self.keys = protection.keys
        self.tracing = tracing
        direct = DirectRoutes(api, [*tokenize.router.routes, *embeddings.router.routes])
        limited = BodyLimit(direct, settings, held)
        inner: ASGIApp = Deadline(limited, settings, metrics)
        if protection.keys is not None:
            inner = Guard(inner, protection.keys, protection.rates, metrics)
        self._app = RequestContext(inner, metrics, tracing)
        self.refuse = RequestContext(TooMany(settings), metrics, tracing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI's."""
        scope["app"] = self
        await self._app(scope, receive, send)


def create_app(
    settings: Settings,
    bundles: Sequence[LoadedBundle] | None = None,
    *,
    costs: type[Costs] = Costs,
    decoding: Callable[[Settings, int], Decoding] = decoding_of,
    tracing: Tracing | None = None,
) -> Application:
    """The server of some bundles, as an ASGI application.

    Without `bundles` those of `settings` are loaded when the application starts. The engine is at `app.state.engine`
    from then on; `app.state.lost` is set when a device died, which ends a server. `costs` are learnt for each model;
    `decoding` makes where clips are decoded.
    """
    metrics = Metrics()
    held = OwnRoom(settings.max_held_bytes)
    cache = cache_of(settings, settings.cache_bytes, metrics.registry)

    @asynccontextmanager
    async def run_engine(lost: asyncio.Event) -> AsyncIterator[Engine]:
        loaded = bundles if bundles is not None else await asyncio.to_thread(load_bundles, settings)
        models = serve_here(
            loaded,
            settings,
            Rooms.own(settings, len(places_of(loaded))),
            costs=lambda _: costs(),
            on_batch=metrics.batch,
            on_lost=lost.set,
        )
        engine = Engine(models, settings, metrics, decoding=decoding(settings, settings.workers), cache=cache)
        metrics.watch(engine, held)
        engine.start()
        yield engine
        await engine.close()

    async def exposition() -> bytes:
        return metrics.exposition()

    protection = Protection.own(settings, metrics)
    return assembled(settings, metrics, held, protection, run_engine, exposition, tracing)


def assembled(
    settings: Settings,
    metrics: Metrics,
    held: Room,
    protection: Protection,
    run_engine: Callable[[asyncio.Event], AbstractAsyncContextManager[Engine]],
    exposition: Callable[[], Awaitable[bytes]],
    tracing: Tracing | None = None,
) -> Application:
    """The application around an engine that runs as long as it does, and sets the event when its device is lost."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        api.state.lost = asyncio.Event()
        async with run_engine(api.state.lost) as api.state.engine:
            yield
        protection.fetcher.close()

    api = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        title="Tessera",
        version=API_VERSION,
        description="Audio, video and text as one shared alphabet of discrete codes.",
        lifespan=lifespan,
    )
    if tracing is not None:
        metrics.watch_tracing(tracing)
    api.state.metrics = metrics
    api.state.fetcher = protection.fetcher
    api.state.exposition = exposition
    add_error_handlers(api)
    for router in (tokenize.router, embeddings.router, models.router, health.router):
        api.include_router(router)
    if settings.admin_port is None:
        api.include_router(health.metrics_router)
    api.openapi = lambda: document_of(api)  # type: ignore[method-assign]
    return Application(api, settings, metrics, held, protection, tracing)
