"""The application: routes, middleware, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.api import embeddings, health, models, tokenize
from service.api.answers import add_error_handlers
from service.contract import API_VERSION, document_of
from service.engine import Engine
from service.metrics import Metrics
from service.middleware import BodyLimit, Deadline, RequestContext
from service.settings import Settings
from tessera.tokenizer import Tokenizer


def create_app(settings: Settings, tokenizer: Tokenizer | None = None) -> FastAPI:
    """The server of one bundle, as an ASGI application.

    Without `tokenizer` the bundle of `settings` is loaded when the application starts. The engine is at
    `app.state.engine` from then on.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = tokenizer if tokenizer is not None else await asyncio.to_thread(load_tokenizer, settings)
        engine = app.state.engine = Engine(loaded, settings, metrics)
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


def load_tokenizer(settings: Settings) -> Tokenizer:
    """The tokenizer of the bundle that `settings` name.

    Raises:
        BundleError: there is none, or it is damaged.
        RuntimeUnavailable: the device is not there.
    """
    return Tokenizer.load(
        settings.bundle, device=settings.device, threads=settings.threads, limits=settings.limits
    )
