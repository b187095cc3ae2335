"""`tessera serve` and `tessera bench serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tessera.commands import BundleOption


def serve(
    bundle: BundleOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  \\[default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  \\[default: 8000]")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, tensorrt, or one GPU, as cuda:1.  \\[default: cpu]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads of a graph.  \\[default: the cores it may use]")
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Serve /metrics here only.  \\[default: the main port]")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="What is logged.  \\[default: info]"),
    ] = None,
) -> None:
    """Serve a bundle over HTTP. Each option and every limit is also a setting, such as TESSERA_PORT."""
    from service.server import serve as run
    from service.settings import Settings

    run(
        Settings.load(
            bundle=bundle,
            host=host,
            port=port,
            device=device,
            threads=threads,
            admin_port=admin_port,
            log_level=log_level,
        )
    )


def bench_serve(
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each figure is measured.")] = 5.0,
    clients: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
) -> None:
    """Served windows a second over HTTP against the bare graphs, per modality, in one run."""
    from service.bench.report import run_bench

    run_bench(bundle, seconds=seconds, clients=clients, out=out)


def bench_graphs(
    bundles: Annotated[
        list[str], typer.Argument(help="Folders of bundles, or hf://owner/name; the first is the base.")
    ],
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each graph is measured.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
) -> None:
    """Size, agreement with the model and bare speed of the codes graphs of bundles, which take turns."""
    from service.bench.graphs import run_graphs_bench

    run_graphs_bench(bundles, seconds=seconds, out=out)
