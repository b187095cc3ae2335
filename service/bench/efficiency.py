"""One case: the bare graphs, the engine and the server, in one run, and what an item costs beyond its graph."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from service.bench.bare import Bare, BareLoop
from service.bench.cases import Case
from service.bench.core import core_rate
from service.bench.load import Closed, Load, LoadProcess, LoadResult, Open, Request
from service.bench.server import Server
from tessera.errors import TesseraError

_STAGE = 'tessera_stage_duration_seconds_sum{stage="'
_DEVICE = "tessera_device_busy_seconds_total"
_EXECUTIONS, _WINDOWS = "tessera_executions_total", "tessera_batch_items_sum"


@dataclass(frozen=True)
class Bench:
    """What each figure is measured with."""

    server: Server
    load: LoadProcess
    seconds: float

    def run(self, requests: list[Request], arrivals: Closed | Open) -> LoadResult:
        """Send `requests`.

        Raises:
            TesseraError: an answer was wrong, or none.
        """
        result = self.load.run(Load(self.server.url, requests, arrivals))
        if not result.all_good:
            raise TesseraError(f"the server answered wrongly: {result.statuses()} {result.sample}")
        return result


def efficiency(bench: Bench, case: Case) -> dict[str, Any] | None:
    """The figures of `case`, as JSON takes them; None where the server takes no such body.

    Raises:
        TesseraError: an answer was wrong.
    """
    requests: dict[int, list[Request]] = {}
    for size in case.sizes:
        accepted = [bench.server.accepted(request) for request in case.requests(size)]
        if None in accepted:
            return None
        requests[size] = [request for request in accepted if request is not None]
    loop = BareLoop(case.tokenizer.bundle, case.window)
    before = loop.best(bench.seconds)
    graph_sec = loop.cpu_sec(before.batch_size, bench.seconds / 4)
    core = {size: core_rate(case, size, bench.seconds) for size in case.sizes}
    served = {size: _served(bench, case, size, requests[size], graph_sec) for size in case.sizes}
    alone = _alone(bench, requests[1], before)
    after = loop.rate(before.batch_size, bench.seconds / 2)
    bare = mean((before.rate, after))
    return {
        "case": case.name,
        "model": case.tokenizer.manifest.name,
        "bare": {
            "items_per_second": round(bare, 1),
            "batch_size": before.batch_size,
            "item_ms": round(1000 / bare, 4),
            "graph_cpu_us_per_item": round(1e6 * graph_sec, 1),
            "drift": round(after / before.rate - 1, 3),
        },
        "in_process": [
            {
                "items_per_request": size,
                "in_flight": case.in_flight(size),
                "items_per_second": round(rate.items, 1),
                "efficiency": round(rate.items / bare, 3),
                "cpu_us_per_item": round(1e6 * rate.cpu_sec, 1),
            }
            for size, rate in core.items()
        ],
        "http": [
            figures | {"efficiency": round(figures["items_per_second"] / bare, 3)}
            for figures in served.values()
        ],
        "alone": alone,
    }


def _served(bench: Bench, case: Case, size: int, requests: list[Request], graph_sec: float) -> dict[str, Any]:
    in_flight = case.in_flight(size)
    bench.run(requests, Closed(in_flight, bench.seconds / 5))
    spent, counted = bench.server.cpu_sec(), bench.server.metrics()
    result = bench.run(requests, Closed(in_flight, bench.seconds))
    items = len(result.status) * size
    cpu_sec = (bench.server.cpu_sec() - spent) / items
    changes = {name: value - counted.get(name, 0.0) for name, value in bench.server.metrics().items()}
    busy = changes.get(_DEVICE, 0.0)
    stages = {
        name.removeprefix(_STAGE).partition('"')[0]: round(1e6 * value / items, 1)
        for name, value in changes.items()
        if name.startswith(_STAGE)
    }
    document = result.document()
    return {
        "items_per_request": size,
        "in_flight": in_flight,
        "items_per_second": round(result.rate * size, 1),
        "latency_ms": document["latency_ms"],
        "server_cpu_us_per_item": round(1e6 * cpu_sec, 1),
        "beyond_graph_cpu_us_per_item": round(1e6 * (cpu_sec - graph_sec), 1),
        "graph_share_of_cpu": round(graph_sec / cpu_sec, 3) if cpu_sec else None,
        "client_cpu_us_per_item": round(document["client_cpu_us_per_request"] / size, 2),
        "stages_us_per_item": stages,
        "device_busy_us_per_item": round(1e6 * busy / items, 1),
        "mean_batch": round(changes.get(_WINDOWS, 0.0) / max(1.0, changes.get(_EXECUTIONS, 0.0)), 2),
    }


def _alone(bench: Bench, requests: list[Request], bare: Bare) -> dict[str, float]:
    """What one request takes on an idle server, beyond its graphs alone."""
    bench.run(requests, Closed(1, bench.seconds / 5))
    latency = bench.run(requests, Closed(1, bench.seconds)).document()["latency_ms"]
    return {
        "p50_ms": latency["p50"],
        "p99_ms": latency["p99"],
        "bare_ms": round(1000 * bare.alone_sec, 3),
        "added_ms": round(latency["p50"] - 1000 * bare.alone_sec, 3),
    }
