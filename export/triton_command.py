"""`tessera triton`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def triton(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or hf://owner/name.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the model repository; other models in it stay.")
    ],
    max_batch: Annotated[
        int, typer.Option(help="Windows in one run of a graph, at most; of large pictures fewer.", min=1)
    ] = 8,
    version: Annotated[
        int | None,
        typer.Option(
            help="Number of this version of the models.  \\[default: the next, if it is new]", min=1
        ),
    ] = None,
) -> None:
    """Write a bundle as a model repository of Triton Inference Server, an ensemble for each modality."""
    from export.repository import write_repository
    from tessera.hub import open_bundle

    for name in write_repository(open_bundle(bundle), out, max_batch=max_batch, version=version):
        print(f"{out / name}")
