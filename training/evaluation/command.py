"""`tessera evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError

if TYPE_CHECKING:
    from training.evaluation.evaluation import Evaluation

require_extra("train", "torch", "sklearn", "scipy", "matplotlib")


class ProtocolName(StrEnum):
    """How clips are divided."""

    HELD_OUT = "held_out"
    PAPER = "paper"


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Runs of one recipe, trained with different seeds.")],
    tasks: Annotated[
        str | None,
        typer.Option(
            help="ave, avvp, ave-avvp, ucf-vgg, retrieval, world, spiked: one, or several with commas.  "
            "\\[default: that of the data the runs were trained on]",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        ProtocolName, typer.Option(help="Disjoint clips for fitting and testing, or as released.")
    ] = ProtocolName.HELD_OUT,
    data: Annotated[
        Path | None, typer.Option(help="Folder with a feature store for each dataset.", file_okay=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores as JSON here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as markdown here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the scores as a .png, .svg or .pdf.")] = None,
    codes: Annotated[
        Path | None, typer.Option(help="Draw which modality uses which code, in the first run and task.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Channels of the codebook that TOC keeps.  \\[default: all]", min=1)
    ] = None,
    toc_lambda: Annotated[
        float, typer.Option(help="TOC's weight of variance against similarity.", min=0.0, max=1.0)
    ] = 0.3,
    ratio: Annotated[
        str, typer.Option(help="Of the kept channels, those of the highest and of the lowest score.")
    ] = "1:0",
    seeds: Annotated[int, typer.Option(help="How many heads are fitted for each run.", min=1)] = 5,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each head.  \\[default: as released]", min=1)
    ] = None,
    cache: Annotated[
        Path, typer.Option("--cache", help="Folder where features are kept between runs.")
    ] = Path("runs/cache"),
) -> None:
    """Score runs: what is fitted on the codes of one modality is tested on those of another."""
    from rich.console import Console

    from training.checkpoint import latest_checkpoint, load_recipe
    from training.data.sources import counts_every_slot
    from training.evaluation.catalogue import open_tasks, released_column, task_names
    from training.evaluation.evaluation import Toc, require_seeds_of_one_recipe, score_runs
    from training.evaluation.generated import generated_tasks, own_task
    from training.evaluation.table import captions, rich_table
    from training.evaluation.tasks.task import Settings
    from training.toc_command import parse_ratio

    _require_paths((out, markdown), (plot, codes))
    toc = Toc(keep, toc_lambda, parse_ratio(ratio))
    checkpoints = [latest_checkpoint(run) for run in runs]
    recipes = [load_recipe(checkpoint)[0] for checkpoint in checkpoints]
    require_seeds_of_one_recipe(recipes)
    recipe = recipes[0]
    settings = Settings(protocol.value, released_column(recipe, keep), epochs, counts_every_slot(recipe.data))
    names = [own_task(recipe)] if tasks is None else task_names(tasks)
    generated = generated_tasks(recipe, checkpoints[0], cache, settings)
    opened = open_tasks(names, data, settings, recipe.modalities, generated)
    with Console(stderr=True).status("opening") as status:
        found = score_runs(checkpoints, recipes, opened, toc, seeds, protocol.value, status.update)
    console = Console()
    console.print(rich_table(found.document))
    for line in captions(found.document):
        console.print(line, style="dim")
    _write(found, out, markdown, plot, codes)


def _require_paths(texts: tuple[Path | None, ...], pictures: tuple[Path | None, ...]) -> None:
    """What cannot be written is said before hours of scoring, not after them."""
    from training.files import require_writable
    from training.plots.pictures import require_picture_path

    for path in filter(None, pictures):
        require_picture_path(path)
    for path in filter(None, (*texts, *pictures)):
        require_writable(path)


def _write(
    found: Evaluation, out: Path | None, markdown: Path | None, plot: Path | None, codes: Path | None
) -> None:
    """Everything that was asked for, as files."""
    from training.evaluation import table
    from training.evaluation.chart import scores_figure
    from training.plots.pictures import write_picture

    if out is not None:
        _write_text(out, json.dumps(found.document, indent=1) + "\n")
    if markdown is not None:
        _write_text(markdown, table.markdown(found.document))
    if plot is not None:
        write_picture(plot, scores_figure(found.document))
    if codes is not None:
        _draw_codes(codes, found)


def _draw_codes(path: Path, found: Evaluation) -> None:
    from training.evaluation.activation import activation_figure
    from training.evaluation.health import code_use
    from training.plots.pictures import write_picture

    task, result = next(iter(found.first.items()))
    use = code_use(result.coded, result.sizes)
    levels = {
        f"level {place + 1}" if len(result.sizes) > 1 else "codebook": {m: use[m][place] for m in use}
        for place in range(len(result.sizes))
    }
    write_picture(path, activation_figure(levels, f"Who uses which code: clips of {task}"))


def _write_text(path: Path, text: str) -> None:
    from training.files import write_whole

    try:
        write_whole(path, text.encode())
    except OSError:
        raise TrainingError(f"'{path}' cannot be written") from None
