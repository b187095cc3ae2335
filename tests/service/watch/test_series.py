"""However strange the requests are, there are as many series as routes, statuses, models and modalities allow."""

from __future__ import annotations

import random
import string
from functools import cache
from pathlib import Path
from typing import Any, get_args

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.cache.counts import ErrorKind
from service.errors import CATALOGUE
from service.metrics import FailureReason
from service.settings import Settings
from service.trace import Stage
from tessera.windows import MODALITIES
from tests.service.running import running_server

REQUESTS = 3000
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "SEARCH")
UNDOCUMENTED = ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/metrics", "unmatched")
STATUSES = {200, 206, 304, 307, 416, 499, *(spec.status for spec in CATALOGUE.values())}
"""Of the catalogue, of a good answer, of a file in parts, and of a client that went."""


@cache
def routes() -> set[str]:
    return {*create_app(Settings.load()).api.openapi()["paths"], *UNDOCUMENTED}


def bounds(models: int, levels: int) -> dict[str, int]:
    """How many series there may be of a family; of all others one for each of a few things that do not change."""
    buckets = 17 + 1  # and what is above them
    use = models * len(MODALITIES) * levels
    return {
        "tessera_requests": len(routes()) * len(STATUSES),
        "tessera_request_duration_seconds": len(routes()) * (buckets + 2),
        "tessera_items": models * len(MODALITIES),
        "tessera_item_failures": len(get_args(FailureReason)),
        "tessera_stage_duration_seconds": len(get_args(Stage)) * (buckets + 2),
        "tessera_executions": models,
        "tessera_device_busy_seconds": models,
        "tessera_batch_items": 9 + 1 + 2,
        "tessera_batch_fill_ratio": 7 + 1 + 2,
        "tessera_model_info": models,
        "tessera_url_inputs": len(CATALOGUE) + 1,
        "tessera_cache_hits": 2,
        "tessera_cache_errors": len(get_args(ErrorKind)),
        "tessera_codebook_counted_segments": use,
        "tessera_codebook_perplexity": use,
        "tessera_codebook_code_used_ratio": use,
        "tessera_codebook_drift_ratio": use,
        "tessera_codebook_reference_perplexity": use,
        "tessera_codebook_reference_code_used_ratio": use,
    }


def series(client: httpx.Client) -> dict[str, int]:
    """How many there are of each family, without times of creation."""
    text = client.get("/metrics").text
    return {
        family.name: len(family.samples)
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    }


def word(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_letters + string.digits + "._~-%", k=dice.randint(1, 20)))


def anything(dice: random.Random) -> dict[str, Any]:
    """A request of any kind: often of a known path, with a body that is often read to the end."""
    known = sorted(routes() - {"unmatched"})
    path = (
        dice.choice(known).replace("{name}", word(dice))
        if dice.random() < 0.7
        else f"/{word(dice)}/{word(dice)}"
    )
    kind = dice.choice(["text/plain", "application/json", "audio/wav", word(dice), f"audio/{word(dice)}"])
    model = dice.choice(["tiny", word(dice)])
    document = {"model": model, "inputs": [{"type": dice.choice(["text", word(dice)]), "text": "a dog"}]}
    headers = {
        "content-type": kind,
        "x-request-id": word(dice),
        "x-priority": dice.choice(["bulk", "interactive", word(dice)]),
        "x-request-timeout-ms": dice.choice(["1", "100000", word(dice)]),
        "traceparent": word(dice),
        word(dice).translate(str.maketrans("%~", "--")): word(dice),
    }
    kept = dict(dice.sample(sorted(headers.items()), dice.randint(1, 4)))
    body: dict[str, Any] = {"json": document} if dice.random() < 0.5 else {"content": word(dice)}
    if "json" in body:
        kept.pop("content-type", None)
    query = {word(dice): word(dice)} if dice.random() < 0.3 else None
    return {
        "method": dice.choice(("GET", "POST", "POST", *METHODS)),
        "url": path,
        "headers": kept,
        "params": query,
        **body,
    }


def test_they_are_bounded_after_any_requests(bundle_dir: Path) -> None:
    most = bounds(models=1, levels=1)
    with running_server(bundle_dir) as server, server.client() as client:
        quiet = series(client)
        dice, statuses = random.Random(7), set()
        for _ in range(REQUESTS):
            statuses.add(client.request(**anything(dice)).status_code)
        fuzzed = series(client)
    assert statuses > {200, 404, 405, 422}
    assert statuses <= STATUSES
    for family, count in fuzzed.items():
        assert count <= most.get(family, quiet.get(family, 0)), family
    assert sum(fuzzed.values()) <= sum(most.values()) + sum(
        count for family, count in quiet.items() if family not in most
    )
