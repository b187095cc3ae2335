"""The comparison as figures: each server by itself, and Tessera over each peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from service.bench.document import publish
from service.bench.peers.catalogue import TESSERA
from service.bench.peers.measure import Measured
from service.bench.peers.plot import draw
from service.bench.peers.run import Turns, compare

_BY_CHANCE = 100
"""Of fewer requests the 99th percentile is the largest value."""


def run_peers_bench(
    names: Sequence[str],
    *,
    item_ms: Sequence[float],
    seconds: float,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Compare Tessera with the peers `names`, print, write to `out` and draw to `plot`.

    Raises:
        TesseraError: this is no checkout.
    """
    comparison = compare(names, item_ms, seconds, Console(stderr=True))
    figures = [figure for turns in comparison.turns for figure in case_figures(turns)]
    facts = {"versions": comparison.versions, **comparison.facts}
    if plot is not None:
        draw(figures, plot)
    publish("peers", facts, figures, _table(figures), out)


def case_figures(turns: Turns) -> list[dict[str, Any]]:
    """One figure a server, Tessera's the mean of its turns. What failed says why."""
    own = [_figure(turns, measured) for measured in turns.own]
    mean = _mean(own) if own else None
    figures = []
    if mean:
        drift = round(turns.own[-1].rate / turns.own[0].rate, 3)
        figures.append({**_case(turns, TESSERA), **mean, "drift": drift, "turns": own})
    for name, measured in turns.peers.items():
        peer = _figure(turns, measured)
        ratios = {"tessera_over_peer": _ratios(turns, name, mean, peer)} if mean else {}
        figures.append({**_case(turns, name), **peer, **ratios})
    return figures + [{**_case(turns, name), "failed": why} for name, why in turns.failed.items()]


def _case(turns: Turns, name: str) -> dict[str, Any]:
    case = turns.case
    return {
        "item_ms": case.item_ms,
        "items_per_request": case.payload.items,
        "bare_items_per_second": round(case.bare, 1),
        "server": name,
    }


def _figure(turns: Turns, measured: Measured) -> dict[str, Any]:
    items = turns.case.payload.items
    return {
        "wire_form": measured.form,
        "items_per_second": round(items * measured.rate, 1),
        "requests_per_second": round(measured.rate, 1),
        "efficiency": round(items * measured.rate / turns.case.bare, 3),
        "p50_ms": measured.quantiles["p50"],
        "p99_ms": measured.quantiles["p99"],
        "cpu_us_per_item": round(measured.cpu_us, 1),
        "memory_mb": round(measured.memory_mb, 1),
        "ready_sec": round(measured.ready_sec, 2),
        "at_share": measured.at_share.document(),
    }


def _mean(own: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each number of the turns."""
    numbers = [name for name, value in own[0].items() if isinstance(value, int | float)]
    means = {name: round(fmean(turn[name] for turn in own), 3) for name in numbers}
    return {"wire_form": own[0]["wire_form"], **means}


def _ratios(turns: Turns, name: str, own: dict[str, Any], peer: dict[str, Any]) -> dict[str, Any]:
    """Tessera over the peer. `p99_at_its_rate`: both were asked as many requests a second, 70 % of what the peer can.

    None where Tessera cannot do as many at all.
    """
    same = turns.same_rate.get(name)
    at_its_rate = None if same is None else same.document()
    return {
        "items_per_second": _over(own["items_per_second"], peer["items_per_second"]),
        "p50": _over(own["p50_ms"], peer["p50_ms"]),
        "p99": _over(own["p99_ms"], peer["p99_ms"]),
        "p99_at_its_rate": at_its_rate and _over(at_its_rate["latency_ms"]["p99"], peer["p99_ms"]),
        "cpu_us_per_item": _over(own["cpu_us_per_item"], peer["cpu_us_per_item"]),
        "tessera_at_its_rate": at_its_rate,
    }


def _over(own: float, peer: float) -> float:
    return float(f"{own / peer:.3g}")


def _table(figures: list[dict[str, Any]]) -> Table:
    title = "the same graph, payload and cores behind each server; x is Tessera over it, same: at equal rates"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("ms", "items", "server", "items/s", "x", "bare", "p99 ms", "x", "same", "us/item"):
        table.add_column(head, justify="left" if head == "server" else "right", no_wrap=True)
    before = None
    for row in figures:
        case = row["item_ms"], row["items_per_request"]
        if before not in (None, case):
            table.add_section()
        table.add_row(*(("", "") if case == before else (f"{case[0]:g}", str(case[1]))), *_cells(row))
        before = case
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    if "failed" in row:
        return [row["server"], "failed"]
    ratios = row.get("tessera_over_peer", {})
    requests = row["at_share"]["requests"] if "at_share" in row else row["turns"][0]["at_share"]["requests"]
    return [
        row["server"],
        f"{row['items_per_second']:,.0f}",
        _ratio(ratios.get("items_per_second")),
        f"{row['efficiency']:.2f}",
        ("~" if requests < _BY_CHANCE else "") + f"{row['p99_ms']:.1f}",
        _ratio(ratios.get("p99")),
        _ratio(ratios.get("p99_at_its_rate")),
        f"{row['cpu_us_per_item']:.0f}",
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
