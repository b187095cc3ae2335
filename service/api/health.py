"""GET /health/startup, /health/live, /health/ready, and /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.api.answers import engine_of, json_answer, stamped
from service.contract import HEALTH
from service.errors import ApiError
from service.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
metrics_router = APIRouter(include_in_schema=False)


@router.get("/health/startup", **HEALTH)
async def startup(request: Request) -> Response:
    """Whether a real batch of each modality has run through its graphs."""
    return _health(request, engine_of(request).warm, "started", "the first batch has not run yet")


@router.get("/health/live", **HEALTH)
async def live(request: Request) -> Response:
    """Whether the process and its device thread answer."""
    if not engine_of(request).alive:
        raise ApiError("device_lost", "the device thread does not answer")
    return _health(request, True, "live", "")


@router.get("/health/ready", **HEALTH)
async def ready(request: Request) -> Response:
    """Whether a request sent now would be admitted and run."""
    return _health(
        request, engine_of(request).ready, "ready", "starting, draining, full, or without its device"
    )


@metrics_router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The Prometheus exposition."""
    return Response(await request.app.state.exposition(), headers={"content-type": CONTENT_TYPE})


def _health(request: Request, good: bool, status: str, otherwise: str) -> Response:
    if not good:
        raise ApiError("not_ready", otherwise)
    return json_answer(stamped(engine_of(request).default, "hea", {"object": "health", "status": status}))
