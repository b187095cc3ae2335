"""`tessera bench peers`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from service.bench.commands import OutOption, PlotOption
from tessera.cli import require_extra

require_extra("bench", "matplotlib", "onnx", "psutil")


class Name(StrEnum):
    """A server to compare with."""

    MOSEC = "mosec"
    TRITON = "triton"
    LITSERVE = "litserve"
    BENTOML = "bentoml"
    RAY = "ray"


def peers(
    peer: Annotated[
        list[Name] | None, typer.Option(help="Compare with this one; again for more.  \\[default: all]")
    ] = None,
    item_ms: Annotated[
        list[float] | None,
        typer.Option(min=0.0, help="Cost of an item in the graph; again for more.  \\[default: 0.1, 1, 10]"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each point is measured.")] = 3.0,
    out: OutOption = None,
    plot: PlotOption = None,
) -> None:
    """Tessera against other servers, with the same graph, payload and cores. The first run installs them."""
    from service.bench.peers.report import run_peers_bench
    from service.bench.peers.run import ITEM_MS

    run_peers_bench(
        [name.value for name in peer or list(Name)],
        item_ms=item_ms or ITEM_MS,
        seconds=seconds,
        out=out,
        plot=plot,
    )
