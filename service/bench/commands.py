"""`tessera bench serve`, `graphs`, `overload`, `soak`, `cache` and `index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.cli import require_extra
from tessera.commands import BundleOption

require_extra("bench", "matplotlib", "onnx", "psutil")

OutOption = Annotated[Path | None, typer.Option(help="Write the JSON here as well.")]
PlotOption = Annotated[Path | None, typer.Option(help="Draw the figures into this PNG.")]


def serve(
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each figure is measured.")] = 1.0,
    cases: Annotated[
        list[str] | None, typer.Option(help="Only cases with this in their name, such as 'text'; repeat it.")
    ] = None,
    out: OutOption = None,
    plot: PlotOption = None,
) -> None:
    """Served items a second against the bare graphs, latency against load, and the start; every answer is checked."""
    from service.bench.report import Wanted, run_bench

    run_bench(bundle, Wanted(seconds, cases or ()), out=out, plot=plot)


def graphs(
    bundles: Annotated[
        list[str], typer.Argument(help="Folders of bundles, or hf://owner/name; the first is the base.")
    ],
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each graph is measured.")] = 5.0,
    out: OutOption = None,
) -> None:
    """Size, agreement with the model and bare speed of the codes graphs of bundles, which take turns."""
    from service.bench.graphs import run_graphs_bench

    run_graphs_bench(bundles, seconds=seconds, out=out)


def overload(
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 120.0,
    factor: Annotated[float, typer.Option(min=1, help="How many times the measured capacity.")] = 5.0,
    deadline_ms: Annotated[int, typer.Option(min=1, help="What each request gives the server.")] = 1000,
    out: OutOption = None,
    plot: PlotOption = None,
) -> None:
    """Far more than the server can do: deadlines of what it admits, refusals, memory, recovery.

    Without a bundle it is one whose graph takes 10 ms an item, made for this.
    """
    from service.bench.overload import Overload, run_overload

    run_overload(bundle, Overload(seconds, factor, deadline_ms), out=out, plot=plot)


def soak(
    bundle: BundleOption = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="How long.")] = 20.0,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of the measured capacity.")] = 0.5,
    out: OutOption = None,
    plot: PlotOption = None,
) -> None:
    """Inputs of every kind and many shapes, all answers checked: does the memory of the server grow?"""
    from service.bench.soak import run_soak

    run_soak(bundle, minutes=minutes, share=share, out=out, plot=plot)


def cache(
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each figure is measured.")] = 2.0,
    out: OutOption = None,
) -> None:
    """Items a second whose codes are known against the same ones computed, for what the bundle reads."""
    from service.bench.cache import run_cache_bench

    run_cache_bench(bundle, seconds=seconds, out=out)


def index(
    items: Annotated[
        list[int] | None, typer.Option(min=1000, help="Sizes; without, ten thousand and a million.")
    ] = None,
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help="`world` or `zipf`; without, both.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each figure is measured.")] = 3.0,
    threads: Annotated[int, typer.Option(min=1, help="Of each index, ours and others.")] = 1,
    hnsw: Annotated[
        bool, typer.Option("--hnsw", help="Build an HNSW graph too: minutes at a million.")
    ] = False,
    out: OutOption = None,
    plot: PlotOption = None,
) -> None:
    """Retrieval on codes beside dense indexes of the same embeddings: time, memory; every answer is compared."""
    from service.bench.retrieval.report import run_index_bench

    run_index_bench(
        items or [10_000, 1_000_000],
        worlds or ["world", "zipf"],
        seconds=seconds,
        threads=threads,
        hnsw=hnsw,
        out=out,
        plot=plot,
    )
