"""The application: routes, middleware, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.api import embeddings, health, models, tokenize
from service.api.answers import add_error_handlers
from service.api.direct import DirectRoutes
from service.bundles import LoadedBundle, load_bundles
from service.contract import API_VERSION, document_of
from service.costs import Costs
from service.engine import Engine
from service.metrics import Metrics
from service.middleware import BodyLimit, Deadline, RequestContext
from service.serving import serve_here
from service.settings import Settings


def create_app(
    settings: Settings, bundles: Sequence[LoadedBundle] | None = None, *, costs: type[Costs] = Costs
) -> FastAPI:
    """The server of some bundles, as an ASGI application.

    Without `bundles` those of `settings` are loaded when the application starts. The engine is at `app.state.engine`
    from then on; `app.state.lost` is set when a device died, which ends a server. `costs` are learnt for each model.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = bundles if bundles is not None else await asyncio.to_thread(load_bundles, settings)
        app.state.lost = asyncio.Event()
        models = serve_here(loaded, settings, costs=costs, on_batch=metrics.batch, on_lost=app.state.lost.set)
        engine = app.state.engine = Engine(models, settings, metrics)
        engine.start()
        yield
        await engine.close()

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
    app.add_middleware(DirectRoutes, routes=tokenize.router.routes)
    app.add_middleware(BodyLimit, settings=settings, metrics=metrics)
    app.add_middleware(Deadline, settings=settings, metrics=metrics)
    app.add_middleware(RequestContext, metrics=metrics)
    add_error_handlers(app)
    for router in (tokenize.router, embeddings.router, models.router, health.router):
        app.include_router(router)
    if settings.admin_port is None:
        app.include_router(health.metrics_router)
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]
    return app
