"""`tessera bench overload`: far more than the server can do, and what becomes of it, of the rest, and afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.bench.cases import feature_cases
from service.bench.document import publish
from service.bench.graphs_of_cost import write_bundle
from service.bench.load import Closed, Load, LoadProcess, LoadResult, Open, Request, percentiles
from service.bench.memory import MemoryWatch
from service.bench.plots import plot_memory
from service.bench.server import Server, server
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer

GRAPH_MS = 10.0
"""What an item costs where no bundle is named: enough that the graph is what is overloaded."""

_IN_FLIGHT = 64
_RECOVERY_RATE, _RECOVERY_SEC = 20.0, 10.0
_SLOWER = 3.0
"""Recovered is who answers within so many times the median of an idle server."""


@dataclass(frozen=True)
class Overload:
    """`factor` times the measured capacity for `seconds`, each request with `deadline_ms`."""

    seconds: float
    factor: float
    deadline_ms: int


def run_overload(bundle: str | None, overload: Overload, *, out: Path | None, plot: Path | None) -> None:
    """Measure, print, write to `out`, and draw the memory to `plot`.

    Raises:
        BundleError: the bundle is none.
        TesseraError: the server did not start, or an answer was wrong.
    """
    with _bundle(bundle) as folder, LoadProcess() as load, server(folder) as running:
        tokenizer = Tokenizer.load(folder)
        requests = _requests(tokenizer, running)
        Console(stderr=True).print("measuring the capacity", style="dim")
        capacity = _good(load, running, requests, Closed(_IN_FLIGHT, min(5.0, overload.seconds))).rate
        idle = _good(load, running, requests, Closed(1, min(2.0, overload.seconds)))
        idle_sec = percentiles(idle.latency)["p50"]
        pressed = [_with_deadline(request, overload.deadline_ms) for request in requests]
        Console(stderr=True).print(f"{overload.factor:g} times that", style="dim")
        with MemoryWatch(running) as memory:
            result = load.run(
                Load(
                    running.url, pressed, Open(overload.factor * capacity, overload.seconds), connections=4096
                )
            )
            after = load.run(Load(running.url, requests, Open(_RECOVERY_RATE, _RECOVERY_SEC, seed=None)))
        if result.wrong or after.wrong:
            raise TesseraError(f"the server answered wrongly: {result.sample or after.sample}")
        facts = {
            "model": tokenizer.manifest.name,
            "capacity_requests_per_second": round(capacity, 1),
            "idle_p50_ms": round(1000 * idle_sec, 3),
            "factor": overload.factor,
            "seconds": overload.seconds,
            "deadline_ms": overload.deadline_ms,
            "memory": memory.document(),
            "recovery_seconds": _recovery_sec(result, after, _SLOWER * idle_sec),
        }
    figures = [_figures(result, capacity, overload.deadline_ms / 1000)]
    publish("overload", facts, figures, _table(facts, figures[0]), out)
    if plot is not None:
        plot_memory(memory.samples, f"{overload.factor:g} times the capacity", plot)


@contextmanager
def _bundle(named: str | None) -> Iterator[str]:
    if named is not None:
        yield named
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(write_bundle(Path(folder), GRAPH_MS))


def _requests(tokenizer: Tokenizer, running: Server) -> list[Request]:
    """Features of single clips, as they are where the server takes that."""
    for case in reversed(list(feature_cases(tokenizer, tokenizer.modalities[0], "features"))):
        accepted = [running.accepted(request) for request in case.requests(1)]
        if None not in accepted:
            break
    return [request for request in accepted if request is not None]


def _with_deadline(request: Request, deadline_ms: int) -> Request:
    return replace(request, headers={**request.headers, "x-request-timeout-ms": str(deadline_ms)})


def _good(load: LoadProcess, running: Server, requests: Sequence[Request], arrivals: Closed) -> LoadResult:
    result = load.run(Load(running.url, requests, arrivals))
    if not result.all_good:
        raise TesseraError(f"the server answered wrongly: {result.statuses()} {result.sample}")
    return result


def _figures(result: LoadResult, capacity: float, deadline_sec: float) -> dict[str, Any]:
    """Admitted is what was answered otherwise than 503; all of that should be 200, within the deadline."""
    refused = result.status == 503
    late = int(np.sum(result.latency[result.good] > deadline_sec))
    return {
        **result.document(),
        "offered": round(len(result.status) / result.seconds, 1),
        "good_over_capacity": round(result.rate / capacity, 3),
        "admitted": int(np.sum(~refused)),
        "admitted_not_answered": int(np.sum(~refused & ~result.good)),
        "admitted_over_deadline": late,
        "refused": int(np.sum(refused)),
        "refused_without_retry_after": int(np.sum(refused)) - result.retry_after,
        "refused_ms": {
            name: round(1000 * value, 3) for name, value in percentiles(result.latency[refused]).items()
        },
    }


def _recovery_sec(result: LoadResult, after: LoadResult, fast_sec: float) -> float | None:
    """From the end of the overload to the first answer as of an idle server; None if none came."""
    ended = max(0.0, float(np.max(result.due + result.latency)) - result.seconds)
    recovered = after.good & (after.latency <= fast_sec)
    if not recovered.any():
        return None
    first = float(after.due[recovered].min())
    return round(ended + first, 3)


def _table(facts: dict[str, Any], figures: dict[str, Any]) -> Table:
    table = Table(
        title=f"{facts['factor']:g} times the capacity for {facts['seconds']:g} s", show_header=False
    )
    rows = {
        "capacity, requests/s": facts["capacity_requests_per_second"],
        "answered 200, of the capacity": figures["good_over_capacity"],
        "admitted": figures["admitted"],
        "of these not answered 200": figures["admitted_not_answered"],
        "of these 200 after the deadline": figures["admitted_over_deadline"],
        "answered 200, p99 ms": figures["latency_ms"].get("p99", "-"),
        "refused with 503": figures["refused"],
        "of these without Retry-After": figures["refused_without_retry_after"],
        "refused, p99 ms": figures["refused_ms"].get("p99", "-"),
        "memory before, most, after, MB": "{first_mb} {most_mb} {last_mb}".format(**facts["memory"]),
        "recovery, s": facts["recovery_seconds"],
        "generator on time": figures["reliable"],
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table
