"""`tessera bench cache`: what a server answers from memory against what it computes, of the same requests."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from service.bench.cases import Case, media_cases
from service.bench.document import publish
from service.bench.efficiency import Bench
from service.bench.load import Closed, LoadProcess
from service.bench.server import server
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer

_ROUNDS = 3


def run_cache_bench(bundle: str | None, *, seconds: float, out: Path | None) -> None:
    """Measure, print, and write to `out`.

    Raises:
        BundleError: the bundle is none.
        TesseraError: a server did not start, or an answer was wrong.
    """
    tokenizer = Tokenizer.load(bundle)
    folder = str(tokenizer.bundle.folder)
    on = {"TESSERA_CACHE_BYTES": str(64 * 2**20)}
    with LoadProcess() as load, server(folder) as computing, server(folder, environment=on) as knowing:
        benches = Bench(knowing, load, seconds), Bench(computing, load, seconds)
        figures = [_figure(case, *benches) for case in media_cases(tokenizer)]
    publish("cache", {"model": tokenizer.manifest.name}, figures, _table(figures), out)


def _figure(case: Case, knowing: Bench, computing: Bench) -> dict[str, Any]:
    """Servers take turns, so that a busy moment of the machine is one of both."""
    Console(stderr=True).print(f"measuring {case.name}", style="dim")
    requests = [knowing.server.accepted(request) for request in case.requests(1)]
    known = [request for request in requests if request is not None]
    arrivals = Closed(case.in_flight(1), knowing.seconds / _ROUNDS)
    hits, misses = [], []
    for _ in range(_ROUNDS):
        misses.append(computing.run(known, arrivals).rate)
        hits.append(knowing.run(known, arrivals).rate)
    found = knowing.server.metrics()['tessera_cache_hits_total{level="memory"}']
    if not found:
        raise TesseraError("the server that was to know the codes did not")
    return {
        "case": case.name,
        "hits_per_second": round(median(hits), 1),
        "misses_per_second": round(median(misses), 1),
        "ratio": round(median(hit / miss for hit, miss in zip(hits, misses, strict=True)), 2),
    }


def _table(figures: list[dict[str, Any]]) -> Table:
    table = Table("", "known, items/s", "computed, items/s", "ratio", title="Codes that are known")
    for figure in figures:
        table.add_row(*map(str, figure.values()))
    return table
