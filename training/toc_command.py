"""`tessera toc`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from training.toc import Selection

require_extra("train", "torch", "matplotlib", "scipy")


def toc(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run, a checkpoint, or a .safetensors, .npy or .pt file of any model with a codebook "
            "\\[codes, channels] or \\[levels, codes, channels]."
        ),
    ],
    keep: Annotated[
        int | None, typer.Option(help="Channels to keep of each codebook.  \\[default: all]", min=1)
    ] = None,
    ratio: Annotated[
        str, typer.Option(help="Of the kept channels, those of the highest and of the lowest score.")
    ] = "1:0",
    toc_lambda: Annotated[
        float, typer.Option(help="Weight of variance against similarity.", min=0.0, max=1.0)
    ] = 0.3,
    tensor: Annotated[
        str | None, typer.Option(help="Which tensor of a file is the codebook.  \\[default: the only one]")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw scores and heat maps as a .png, .svg or .pdf.", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print kept channels and scores as JSON.")] = False,
) -> None:
    """Show which channels of a codebook are worth keeping, without training. Several levels are told apart."""
    from rich.console import Console

    from training.plots.pictures import require_picture_path, write_picture
    from training.plots.toc import toc_figure
    from training.toc import select

    parts = parse_ratio(ratio)
    if plot is not None:
        require_picture_path(plot)
    selections = {
        name: select(table, keep or table.shape[1], lambda_=toc_lambda, ratio=parts)
        for name, table in _codebooks(source, tensor).items()
    }
    if plot is not None:
        write_picture(plot, toc_figure(selections, f"TOC of {source.resolve().name}, lambda {toc_lambda:g}"))
    if as_json:
        print(json.dumps(_document(selections, toc_lambda, parts)))
    else:
        Console().print(_table(selections))


def parse_ratio(text: str) -> tuple[int, int]:
    """`highest:lowest` as two whole numbers.

    Raises:
        TrainingError: it is none.
    """
    highest, colon, lowest = text.partition(":")
    if not (colon and highest.isdecimal() and lowest.isdecimal()):
        raise TrainingError(f"a ratio is written highest:lowest, such as 3:1, not '{text}'")
    return int(highest), int(lowest)


def _codebooks(source: Path, tensor: str | None) -> dict[str, Tensor]:
    """The codebooks of a run, a checkpoint or a file, by what they are called."""
    from training.checkpoint import latest_checkpoint, load_model
    from training.codebook_files import read_codebooks

    if not source.is_dir():
        tables = read_codebooks(source, tensor)
    elif tensor is None:
        model = load_model(latest_checkpoint(source))[0]
        tables = [quantizer.table().detach() for quantizer in model.levels()]
    else:
        raise TrainingError("a run knows its own codebooks: --tensor is for a file of another model")
    if len(tables) == 1:
        return {"codebook": tables[0]}
    return {f"level {number}": table for number, table in enumerate(tables, start=1)}


def _document(selections: Mapping[str, Selection], lambda_: float, ratio: tuple[int, int]) -> dict[str, Any]:
    from training.toc import mean_similarity

    return {
        "lambda": lambda_,
        "ratio": list(ratio),
        "levels": [
            {
                "name": name,
                "codes": len(one.table),
                "channels": len(one.scores),
                "kept": list(one.kept),
                "scores": one.scores.tolist(),
                "dead": list(one.dead),
                "variance_kept": one.variance_kept,
                "similarity_before": mean_similarity(one.table),
                "similarity_after": mean_similarity(one.kept_table),
            }
            for name, one in selections.items()
        ],
    }


def _table(selections: Mapping[str, Selection]) -> Table:
    """A column for each codebook."""
    from rich.table import Table

    from training.toc import mean_similarity

    table = Table("", *selections)
    every = selections.values()
    table.add_row("codes", *(f"{len(one.table)}" for one in every))
    table.add_row("channels kept", *(f"{len(one.kept)} of {len(one.scores)}" for one in every))
    table.add_row("variance kept", *(f"{100 * one.variance_kept:.1f} %" for one in every))
    table.add_row("dead channels left out", *(f"{one.dead_dropped} of {len(one.dead)}" for one in every))
    table.add_row("mean cosine before", *(f"{mean_similarity(one.table):+z.4f}" for one in every))
    table.add_row("mean cosine after", *(f"{mean_similarity(one.kept_table):+z.4f}" for one in every))
    return table
