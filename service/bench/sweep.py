"""Latency against load: an open loop at shares of what the server can do at most."""

from __future__ import annotations

from typing import Any

from service.bench.cases import Case
from service.bench.efficiency import Bench
from service.bench.load import Closed, Load, Open, Request
from tessera.errors import TesseraError

SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
CALLED_OUT = 0.7


def sweep(bench: Bench, case: Case) -> dict[str, Any]:
    """Latencies of single items at each share of the rate that a closed loop reaches.

    Raises:
        TesseraError: an answer was wrong.
    """
    requests = [r for r in map(bench.server.accepted, case.requests(1)) if r is not None]
    saturation = bench.run(requests, Closed(case.in_flight(1), 2 * bench.seconds)).rate
    points = [_point(bench, requests, share, share * saturation) for share in SHARES]
    at = next(point for point in points if point["share"] == CALLED_OUT)
    return {
        "case": case.name,
        "items_per_request": 1,
        "saturation_requests_per_second": round(saturation, 1),
        f"latency_ms_at_{CALLED_OUT:.0%}": at["latency_ms"],
        "points": points,
    }


def _point(bench: Bench, requests: list[Request], share: float, rate: float) -> dict[str, Any]:
    result = bench.load.run(Load(bench.server.url, requests, Open(rate, 2 * bench.seconds)))
    if result.wrong:
        raise TesseraError(f"the server answered wrongly: {result.sample}")
    return {"share": share, "offered": round(rate, 1), **result.document()}
