"""The application: routes, middleware, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.admission import OwnRoom, Room
from service.api import embeddings, health, models, tokenize
from service.api.answers import add_error_handlers
from service.api.direct import DirectRoutes
from service.bundles import LoadedBundle, load_bundles
from service.contract import API_VERSION, document_of
from service.costs import Costs
from service.engine import Engine
from service.metrics import Metrics
from service.middleware import BodyLimit, Deadline, RequestContext
from service.serving import Rooms, places_of, serve_here
from service.settings import Settings


def create_app(
    settings: Settings, bundles: Sequence[LoadedBundle] | None = None, *, costs: type[Costs] = Costs
) -> FastAPI:
    """The server of some bundles, as an ASGI application.

    Without `bundles` those of `settings` are loaded when the application starts. The engine is at `app.state.engine`
    from then on; `app.state.lost` is set when a device died, which ends a server. `costs` are learnt for each model.
    """
    metrics = Metrics()
    held = OwnRoom(settings.max_held_bytes)

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
        engine = Engine(models, settings, metrics)
        metrics.watch(engine, held)
        engine.start()
        yield engine
        await engine.close()

    async def exposition() -> bytes:
        return metrics.exposition()

    return assembled(settings, metrics, held, run_engine, exposition)


def assembled(
    settings: Settings,
    metrics: Metrics,
    held: Room,
    run_engine: Callable[[asyncio.Event], AbstractAsyncContextManager[Engine]],
    exposition: Callable[[], Awaitable[bytes]],
) -> FastAPI:
    """The application around an engine that runs as long as it does, and sets the event when its device is lost."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.lost = asyncio.Event()
        async with run_engine(app.state.lost) as app.state.engine:
            yield

    app = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        title="Tessera",
        version=API_VERSION,
        description="Audio, video and text as one shared alphabet of discrete codes.",
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    app.state.exposition = exposition
    app.add_middleware(DirectRoutes, routes=tokenize.router.routes)
    app.add_middleware(BodyLimit, settings=settings, held=held)
    app.add_middleware(Deadline, settings=settings, metrics=metrics)
    app.add_middleware(RequestContext, metrics=metrics)
    add_error_handlers(app)
    for router in (tokenize.router, embeddings.router, models.router, health.router):
        app.include_router(router)
    if settings.admin_port is None:
        app.include_router(health.metrics_router)
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]
    return app
