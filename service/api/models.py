"""GET /models, /limits and /version: what is served, how much it takes, and which build it is."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.answers import engine_of, json_answer, stamped
from service.contract import API_VERSION, LIMITS, MODELS, VERSION
from service.serving import Served
from service.settings import limit_documents

router = APIRouter(tags=["service"])


@router.get("/models", **MODELS)
async def models(request: Request) -> Response:
    """What is served: each model, its codebook, its time grid, the shapes of its features; the default first."""
    engine = engine_of(request)
    fields = {"object": "list", "data": [model_document(model) for model in engine.models.values()]}
    return json_answer(stamped(engine.default, "mod", fields))


@router.get("/limits", **LIMITS)
async def limits(request: Request) -> Response:
    """Every limit, with its value and the setting that moves it."""
    engine = engine_of(request)
    return json_answer(
        stamped(engine.default, "lim", {"object": "list", "data": limit_documents(engine.settings)})
    )


@router.get("/version", **VERSION)
async def build(request: Request) -> Response:
    """Which build answers."""
    engine = engine_of(request)
    fields = {
        "object": "version",
        "version": version("tessera"),
        "api_version": API_VERSION,
        "providers": sorted({each for model in engine.models.values() for each in model.providers}),
    }
    return json_answer(stamped(engine.default, "ver", fields))


def model_document(model: Served) -> dict[str, Any]:
    """What is to be known of a model."""
    opener = model.opener
    manifest = opener.manifest
    return {
        "id": model.name,
        "object": "model",
        "model_revision": opener.bundle.revision,
        "family": manifest.family,
        "modalities": opener.modalities,
        "levels": manifest.levels,
        "codebook_sizes": manifest.codebook_sizes,
        "embedding_dim": manifest.kept_total,
        "clip_codes": manifest.clip_codes,
        "hop_sec": manifest.time_grid.hop_sec,
        "window_segments": manifest.time_grid.window_segments,
        "feature_shapes": {modality: opener.feature_shape(modality) for modality in opener.modalities},
        "licence": manifest.licence,
    }
