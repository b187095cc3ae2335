"""`tessera export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError

require_extra("train", "torch", "onnx", "onnxscript")


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or a run: its latest checkpoint is taken.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the bundle; an older bundle is replaced.")
    ],
    keep: Annotated[
        int | None, typer.Option(help="Channels of the codebook that TOC keeps.  \\[default: all]")
    ] = None,
    toc_lambda: Annotated[
        float, typer.Option(help="TOC's weight of variance against similarity.", min=0.0, max=1.0)
    ] = 0.3,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.  \\[default: the recipe's]")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="What `tessera evaluate` wrote, for the model card.")
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle that serves, proving that its codes are the model's codes."""
    from rich.console import Console

    from export.bundle import ExportSettings, export_bundle, read_tokenizer, require_exportable
    from export.recorded import recorded_windows
    from training.checkpoint import latest_checkpoint, load_recipe

    console = Console()
    folder = latest_checkpoint(checkpoint)
    settings = ExportSettings(name, keep, toc_lambda, _read_scores(scores) if scores else None)
    recipe = load_recipe(folder)[0]
    require_exportable(folder, recipe)
    recorded = recorded_windows(recipe, read_tokenizer(folder).encode())
    bundle = export_bundle(folder, out, settings, recorded, console)
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"{out}: {bundle.manifest.name}, {size / 1e6:.1f} MB, {bundle.revision[:19]}...")


def _read_scores(path: Path) -> dict[str, object]:
    try:
        scores: dict[str, object] = json.loads(path.read_text())
    except (OSError, ValueError):
        raise TrainingError(f"'{path}' is not a file of scores that can be read") from None
    return scores
