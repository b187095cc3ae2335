"""One case: the bare graphs, the engine and the server, in one run, and what an item costs beyond its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np

from service.bench.bare import BareLoop
from service.bench.cases import Case
from service.bench.core import CoreRate, core_rate
from service.bench.load import Closed, Load, LoadProcess, LoadResult, Open, Request, percentiles
from service.bench.server import Server
from tessera.errors import TesseraError

ROUNDS = 3

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

    Bare graphs, engine and server take turns, so that a busy moment of the machine is one of all: an efficiency is the
    median over the rounds, each against the bare graphs before and after it.

    Raises:
        TesseraError: an answer was wrong.
    """
    requests = {size: _accepted(bench.server, case, size) for size in case.sizes}
    if not all(requests.values()):
        return None
    loop = BareLoop(case.tokenizer.bundle, case.window)
    batch_size = loop.best_size(bench.seconds / 2)
    slice_sec = bench.seconds / ROUNDS
    bare = [loop.rate(batch_size, slice_sec)]
    core: dict[int, list[CoreRate]] = {size: [] for size in case.sizes}
    served: dict[int, list[Served]] = {size: [] for size in case.sizes}
    for _ in range(ROUNDS):
        for size in case.sizes:
            core[size].append(core_rate(case, size, slice_sec))
            served[size].append(_served(bench, case, size, requests[size], slice_sec))
        bare.append(loop.rate(batch_size, slice_sec))
    graph_sec = loop.cpu_sec(batch_size, slice_sec)
    return {
        "case": case.name,
        "model": case.tokenizer.manifest.name,
        "bare": {
            "items_per_second": round(median(bare), 1),
            "batch_size": batch_size,
            "item_ms": round(1000 / median(bare), 4),
            "graph_cpu_us_per_item": round(1e6 * graph_sec, 1),
            "drift": round(bare[-1] / bare[0] - 1, 3),
        },
        "in_process": [
            {
                "items_per_request": size,
                "in_flight": case.in_flight(size),
                **_against([rate.items for rate in rates], bare),
                "cpu_us_per_item": round(1e6 * median(rate.cpu_sec for rate in rates), 1),
            }
            for size, rates in core.items()
        ],
        "http": [
            {
                "items_per_request": size,
                "in_flight": case.in_flight(size),
                **_against([round_.items_per_second for round_ in rounds], bare),
                **_costs(rounds, graph_sec),
            }
            for size, rounds in served.items()
        ],
        "alone": _alone(bench, requests[1], loop),
    }


@dataclass(frozen=True)
class Served:
    """One round over HTTP: what came back, what it cost the server, and how its own counters changed."""

    result: LoadResult
    size: int
    cpu_sec: float
    changes: dict[str, float]

    @property
    def items(self) -> int:
        """Items that were asked for."""
        return len(self.result.status) * self.size

    @property
    def items_per_second(self) -> float:
        """Items that were answered."""
        return self.result.rate * self.size


def _accepted(server: Server, case: Case, size: int) -> list[Request]:
    """The requests of `size` items; none where the server takes no such body."""
    accepted = [server.accepted(request) for request in case.requests(size)]
    return [request for request in accepted if request is not None]


def _against(rates: Sequence[float], bare: Sequence[float]) -> dict[str, float]:
    around = [mean(pair) for pair in pairwise(bare)]
    ratios = [rate / base for rate, base in zip(rates, around, strict=True)]
    return {"items_per_second": round(median(rates), 1), "efficiency": round(median(ratios), 3)}


def _served(bench: Bench, case: Case, size: int, requests: list[Request], seconds: float) -> Served:
    arrivals = Closed(case.in_flight(size), seconds)
    bench.run(requests, replace(arrivals, seconds=seconds / 5))
    spent, counted = bench.server.cpu_sec(), bench.server.metrics()
    result = bench.run(requests, arrivals)
    cpu_sec = bench.server.cpu_sec() - spent
    changes = {name: value - counted.get(name, 0.0) for name, value in bench.server.metrics().items()}
    return Served(result, size, cpu_sec, changes)


def _costs(rounds: Sequence[Served], graph_sec: float) -> dict[str, Any]:
    """Where the time of an item goes, over all rounds."""
    items = sum(round_.items for round_ in rounds)
    cpu_sec = sum(round_.cpu_sec for round_ in rounds) / items
    changes = sum((Counter(round_.changes) for round_ in rounds), Counter[str]())
    latency = np.concatenate([round_.result.latency for round_ in rounds])
    client_sec = sum(round_.result.cpu_sec for round_ in rounds) / items
    return {
        "latency_ms": {name: round(1000 * value, 3) for name, value in percentiles(latency).items()},
        "server_cpu_us_per_item": round(1e6 * cpu_sec, 1),
        "beyond_graph_cpu_us_per_item": round(1e6 * (cpu_sec - graph_sec), 1),
        "graph_share_of_cpu": round(graph_sec / cpu_sec, 3) if cpu_sec else None,
        "client_cpu_us_per_item": round(1e6 * client_sec, 2),
        "stages_us_per_item": {
            name.removeprefix(_STAGE).partition('"')[0]: round(1e6 * value / items, 1)
            for name, value in changes.items()
            if name.startswith(_STAGE)
        },
        "device_busy_us_per_item": round(1e6 * _total(changes, _DEVICE) / items, 1),
        "mean_batch": round(changes[_WINDOWS] / max(1.0, _total(changes, _EXECUTIONS)), 2),
    }


def _total(changes: Mapping[str, float], name: str) -> float:
    """That of all models together."""
    return sum(value for series, value in changes.items() if series.partition("{")[0] == name)


def _alone(bench: Bench, requests: list[Request], loop: BareLoop) -> dict[str, float]:
    """What one request takes on an idle server, beyond its graphs alone, which are measured before and after."""
    bench.run(requests, Closed(1, bench.seconds / 5))
    before = loop.alone_sec(bench.seconds / 4)
    latency = bench.run(requests, Closed(1, bench.seconds / 2)).document()["latency_ms"]
    bare_ms = 1000 * mean((before, loop.alone_sec(bench.seconds / 4)))
    return {
        "p50_ms": latency["p50"],
        "p99_ms": latency["p99"],
        "bare_ms": round(bare_ms, 3),
        "added_ms": round(latency["p50"] - bare_ms, 3),
    }
