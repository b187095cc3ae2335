"""`tessera bench serve`: every case bare, in process and over HTTP, latency against load, and the start."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from service.bench.cases import Case, feature_cases, media_cases
from service.bench.document import publish
from service.bench.efficiency import Bench, efficiency
from service.bench.graphs_of_cost import write_bundle
from service.bench.load import LoadProcess
from service.bench.plots import plot_serve
from service.bench.server import server
from service.bench.startup import startup_seconds
from service.bench.sweep import sweep
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer

COSTS_MS = (0.0, 0.1, 1.0, 3.0, 10.0)
"""What an item costs in the graphs that are made to measure the server itself."""

_SWEPT_MS = 1.0
_MADE = "graph of"


@dataclass(frozen=True)
class Wanted:
    """Which cases: those whose name has one of `words` in it, all without; and how long each figure is measured."""

    seconds: float
    words: Sequence[str] = ()

    def picks(self, name: str) -> bool:
        """Whether case `name` is wanted."""
        return not self.words or any(word in name for word in self.words)


def run_bench(bundle: str | None, wanted: Wanted, *, out: Path | None, plot: Path | None) -> None:
    """Measure, print, write to `out`, and draw to `plot`.

    Raises:
        BundleError: there is no bundle.
        TesseraError: the server did not start, an answer was wrong, or there is no such case.
    """
    console = Console(stderr=True)
    figures: list[dict[str, Any]] = []
    swept: dict[str, Any] = {}
    tokenizer = Tokenizer.load(bundle)
    with LoadProcess() as load, _served(tokenizer, wanted) as groups:
        for group in groups:
            with server(str(group[0].tokenizer.bundle.folder)) as running:
                bench = Bench(running, load, wanted.seconds)
                done = _measured(bench, group, console, figures)
                if done and not swept and _is_swept(done[-1], wanted):
                    console.print(f"measuring latency against load, {done[-1].name}", style="dim")
                    swept = sweep(bench, done[-1])
    if not figures:
        raise TesseraError("there is no such case, or this server does not take its bodies")
    console.print("measuring the start", style="dim")
    facts = {
        "model": tokenizer.manifest.name,
        "model_revision": tokenizer.bundle.revision,
        "seconds_per_figure": wanted.seconds,
        "start_to_ready_seconds": startup_seconds(tokenizer.bundle),
        "latency_by_load": swept,
    }
    publish("serve", facts, figures, _table(figures), out)
    if plot is not None:
        plot_serve(figures, swept, plot)


def _measured(
    bench: Bench, group: Sequence[Case], console: Console, figures: list[dict[str, Any]]
) -> list[Case]:
    """The cases of `group` that this server takes, each with its figures added; of a made graph the first of them."""
    done: list[Case] = []
    for case in group:
        if done and case.name.startswith(_MADE):
            break
        console.print(f"measuring {case.name}", style="dim")
        found = efficiency(bench, case)
        if found is None:
            console.print(f"left out: this server takes no {case.content_type}", style="dim")
            continue
        figures.append(found)
        done.append(case)
    return done


def _is_swept(case: Case, wanted: Wanted) -> bool:
    """Latency against load is that of the graph of 1 ms, where it is wanted; else of the last case of a server."""
    return case.name.startswith(_cost_name(_SWEPT_MS)) or not _is_made(_SWEPT_MS, wanted)


def _is_made(item_ms: float, wanted: Wanted) -> bool:
    return any(wanted.picks(f"{_cost_name(item_ms)}, {payload}") for payload in ("base64", "raw"))


def _cost_name(item_ms: float) -> str:
    return f"{_MADE} {item_ms:g} ms"


@contextmanager
def _served(tokenizer: Tokenizer, wanted: Wanted) -> Iterator[Iterator[list[Case]]]:
    """The cases of one server after the other: those of the bundle, then those of each made graph."""
    with tempfile.TemporaryDirectory() as folder:
        yield (
            chosen
            for group in _groups(tokenizer, wanted, Path(folder))
            if (chosen := [case for case in group if wanted.picks(case.name)])
        )


def _groups(tokenizer: Tokenizer, wanted: Wanted, folder: Path) -> Iterator[list[Case]]:
    yield [
        *media_cases(tokenizer),
        *(
            case
            for modality in tokenizer.modalities
            for case in feature_cases(tokenizer, modality, f"{modality} features")
        ),
    ]
    for item_ms in COSTS_MS:
        if _is_made(item_ms, wanted):
            made = Tokenizer.load(write_bundle(folder / f"{item_ms:g}", item_ms))
            yield list(reversed(list(feature_cases(made, "audio", _cost_name(item_ms)))))


def _table(figures: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        title="items a second as a share of the bare graphs, 1/32 items a request",
        caption="us/item: processor time beyond the graph; ms: latency added to one alone",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in ("case", "bare/s", "engine", "HTTP", "us/item", "ms", "±%"):
        table.add_column(head, justify="left" if head == "case" else "right", no_wrap=True)
    for row in figures:
        table.add_row(
            row["case"],
            f"{row['bare']['items_per_second']:,.0f}",
            _by_size(row["in_process"], "efficiency", "{:.2f}"),
            _by_size(row["http"], "efficiency", "{:.2f}"),
            _by_size(row["http"], "beyond_graph_cpu_us_per_item", "{:.0f}"),
            f"{row['alone']['added_ms']:.2f}",
            f"{100 * row['bare']['drift']:+.0f}",
        )
    return table


def _by_size(rows: Sequence[dict[str, Any]], name: str, form: str) -> str:
    return "/".join(form.format(row[name]) for row in rows)
