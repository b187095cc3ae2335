"""The bench itself: every case bare and served, as JSON on stdout and as a table on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from service.bench.bare import best_rate
from service.bench.cases import Case, cases
from service.bench.document import publish
from service.bench.server import metrics, served_rate, server
from tessera.tokenizer import Tokenizer

_DECODE = 'tessera_stage_duration_seconds_sum{stage="decode"}'
_ENCODE = 'tessera_stage_duration_seconds_sum{stage="encode"}'
_DEVICE = "tessera_device_busy_seconds_total"
_EXECUTIONS, _WINDOWS = "tessera_executions_total", "tessera_batch_items_sum"


def run_bench(bundle: str | None, *, seconds: float, clients: int, out: Path | None) -> None:
    """Measure, print, and write to `out`.

    Raises:
        BundleError: there is no bundle.
        TesseraError: the server did not start, or an answer was wrong.
    """
    tokenizer = Tokenizer.load(bundle)
    tokenizer.warm_up()
    console = Console(stderr=True)
    figures = []
    with server(bundle) as (host, port):
        for case in cases(tokenizer):
            console.print(f"measuring {case.name}, {case.items} in a request", style="dim")
            figures.append(_figures(tokenizer, case, (host, port), clients, seconds))
    facts = {
        "model": tokenizer.bundle.manifest.name,
        "model_revision": tokenizer.bundle.revision,
        "clients": clients,
        "seconds_per_figure": seconds,
    }
    publish("serve", facts, figures, _table(figures), out)


def _figures(
    tokenizer: Tokenizer, case: Case, address: tuple[str, int], clients: int, seconds: float
) -> dict[str, Any]:
    bare, batch_size = best_rate(tokenizer.bundle, case.windows, seconds)
    served_rate(*address, case, clients, min(1.0, seconds))
    before = metrics(*address)
    served, latencies = served_rate(*address, case, clients, seconds)
    after = metrics(*address)
    spent = {name: after[name] - before.get(name, 0.0) for name in (_DECODE, _ENCODE, _DEVICE)}
    return {
        "case": case.name,
        "items_per_request": case.items,
        "bare_windows_per_second": round(bare, 1),
        "bare_batch_size": batch_size,
        "served_windows_per_second": round(served, 1),
        "efficiency": round(served / bare, 3),
        "decode_share": round(spent[_DECODE] / sum(spent.values()), 3),
        "mean_batch_windows": round(
            (after[_WINDOWS] - before[_WINDOWS]) / (after[_EXECUTIONS] - before[_EXECUTIONS]), 2
        ),
        "latency_ms": {
            "p50": round(1000 * latencies[len(latencies) // 2], 2),
            "p99": round(1000 * latencies[int(0.99 * (len(latencies) - 1))], 2),
        },
    }


def _table(figures: list[dict[str, Any]]) -> Table:
    table = Table(title="windows a second: bare graphs and served over HTTP")
    for head in (
        "case",
        "items",
        "bare",
        "batch",
        "served",
        "efficiency",
        "decoding",
        "mean batch",
        "p50 ms",
    ):
        table.add_column(head, justify="left" if head == "case" else "right", no_wrap=True)
    for row in figures:
        table.add_row(
            row["case"],
            str(row["items_per_request"]),
            f"{row['bare_windows_per_second']:.0f}",
            str(row["bare_batch_size"]),
            f"{row['served_windows_per_second']:.0f}",
            f"{row['efficiency']:.2f}",
            f"{row['decode_share']:.0%}",
            f"{row['mean_batch_windows']:.1f}",
            f"{row['latency_ms']['p50']:.1f}",
        )
    return table
