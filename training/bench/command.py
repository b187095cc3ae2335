"""`tessera bench train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tessera.cli import require_extra

require_extra("train", "torch", "lightning_fabric")


def train(
    method: Annotated[Literal["dcid", "fcid", "both"], typer.Option(help="What to train.")] = "both",
    batch: Annotated[int, typer.Option(min=2, help="Clips in a batch; published are 80.")] = 80,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to train.")] = "cpu",
    precision: Annotated[
        Literal["float32", "bfloat16", "both"], typer.Option(help="Of our side; the baseline is in float64.")
    ] = "both",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each side; the first of several warms up.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
) -> None:
    """Seconds and peak memory of a training step at the published sizes, against a plain float64 program.

    All sides of a method are held in memory at once, about 16 GB at 80 clips; the baseline takes minutes a step.
    """
    from rich.console import Console

    from training.bench.train import run_bench
    from training.config import Recipe

    console = Console(stderr=True)
    report = run_bench(
        [Recipe.load(f"{name}-paper") for name in (("dcid", "fcid") if method == "both" else (method,))],
        batch=batch,
        steps=steps,
        device=device,
        precisions=("float32", "bfloat16") if precision == "both" else (precision,),
        console=console,
    )
    document = report.model_dump_json(indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document + "\n")
    console.print(report.table())
    print(document)
