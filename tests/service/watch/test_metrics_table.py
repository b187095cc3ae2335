"""The table of metrics in the documentation is what a server exposes: names, types and labels."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.trace import Timings
from tessera.tokenizer import Tokenizer
from tests.service.running import running_app

DOCUMENT = Path(__file__).parents[3] / "docs/observability.md"
ROW = re.compile(r"\| `(tessera_\w+)` \| (\w+) \| ([\w, ]*) ?\| (.+) \|")
LE = {"le"}

Known = dict[str, tuple[str, frozenset[str]]]


def documented() -> Known:
    rows = (
        ROW.fullmatch(line) for line in DOCUMENT.read_text().splitlines() if line.startswith("| `tessera_")
    )
    return {row[1]: (row[2], frozenset(row[3].strip().split(", ")) - {""}) for row in rows if row}


def name_of(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


async def exposed(tokenizer: Tokenizer) -> Known:
    """With a Redis that is not there: its metrics are."""
    async with running_app(tokenizer, cache_bytes=2**20, redis_url="redis://127.0.0.1:1") as running:
        metrics = running.engine.metrics
        metrics.watch_tracing(SimpleNamespace(requests=0, exported=0, failed=0))
        metrics.stages(Timings())
        metrics.asked("search", "admitted")
        metrics.fetched("fetched")
        for text in ("a dog barks", "a dog"):
            await running.client.post("/tokenize", content=text, headers={"content-type": "text/plain"})
        families = list(text_string_to_metric_families((await running.client.get("/metrics")).text))
    return {
        name_of(family): (family.type, frozenset({label for s in family.samples for label in s.labels}) - LE)
        for family in families
        if family.name.startswith("tessera_") and not family.name.endswith("_created")
    }


def test_the_table_is_what_is_exposed(tokenizer: Tokenizer) -> None:
    assert documented() == asyncio.run(exposed(tokenizer))
