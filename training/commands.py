"""`tessera train`, `evaluate`, `toc` and `data`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError
from tessera.scores import percent

if TYPE_CHECKING:
    from training.config import Recipe

require_extra("train", "torch", "sklearn", "tensorboard", "lightning_fabric", "matplotlib")


class DeviceName(StrEnum):
    """Where training computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


CacheOption = Annotated[Path, typer.Option("--cache", help="Folder where features are kept between runs.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe in training/recipes, or a path to one.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run: checkpoints, logs and report.html.")
    ],
    seed: Annotated[int | None, typer.Option(help="Seed of the training.  [default: the recipe's]")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train for.  [default: the recipe's]")] = None,
    device: Annotated[
        DeviceName, typer.Option(help="Where to compute; auto takes a GPU where there is one.")
    ] = DeviceName.AUTO,
    devices: Annotated[
        int, typer.Option(help="How many GPUs, or processes on the CPU, share each batch.", min=1)
    ] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; 1 is best for a small model beside others.", min=1)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the latest checkpoint of the run.")
    ] = False,
    cache: CacheOption = Path("runs/cache"),
) -> None:
    """Train a model. Stop it at any time; --resume goes on with the same result as if it had never stopped.

    Under torchrun, which starts the processes itself, --devices is what it says.
    """
    import torch

    from training.config import Recipe
    from training.data.generated import GeneratedData
    from training.devices import open_fabric
    from training.distributed import rank
    from training.models.catalogue import build_model
    from training.randomness import seed_everything
    from training.trainer import train as run

    if threads:
        torch.set_num_threads(threads)
    settings = Recipe.load(recipe)
    changes = {name: value for name, value in (("seed", seed), ("steps", steps)) if value is not None}
    settings = settings.with_training(**changes)
    data = GeneratedData.of(settings.data)
    fabric = open_fabric(settings.training, device.value, devices)
    # One process makes the features that the others then map.
    with fabric.rank_zero_first():
        tokenizer_json = data.tokenizer_json()
        clips = data.features("train", tokenizer_json, cache)
    seed_everything(settings.training.seed)
    extra = {"tokenizer.json": tokenizer_json}
    try:
        checkpoint = run(
            build_model(settings), clips, settings, out, resume=resume, extra_files=extra, fabric=fabric
        )
    except TrainingError:
        # What ends a run ends it in all processes; one says why.
        if rank() > 0:
            raise typer.Exit(1) from None
        raise
    if rank() == 0:
        print(checkpoint)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Runs of one recipe, trained with different seeds.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores as JSON here.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Channels of the codebook that TOC keeps.  [default: all]", min=1)
    ] = None,
    toc_lambda: Annotated[
        float, typer.Option(help="TOC's weight of variance against similarity.", min=0.0, max=1.0)
    ] = 0.3,
    cache: CacheOption = Path("runs/cache"),
) -> None:
    """Score runs on held-out clips: a probe fitted on the codes of one modality, tested on those of another."""
    from rich.console import Console
    from rich.table import Table

    from training.checkpoint import latest_checkpoint, load_model
    from training.data.generated import GeneratedData
    from training.evaluation.held_out import evaluate as score

    checkpoints = [latest_checkpoint(run) for run in runs]
    loaded = [load_model(checkpoint) for checkpoint in checkpoints]
    recipe = loaded[0][1]
    _require_seeds_of_one_recipe([recipe for _, recipe, _ in loaded])
    generated = GeneratedData.of(recipe.data)
    tokenizer_json = _tokenizer_of(checkpoints[0])
    fit, test = (generated.features(split, tokenizer_json, cache) for split in ("validation", "test"))
    scores = score(
        [(recipe.training.seed, model) for model, recipe, _ in loaded], fit, test, keep, toc_lambda
    )
    table = Table("fitted on -> tested on", "accuracy", title=f"held-out clips, seeds: {len(loaded)}")
    rows = {
        **scores["directions"],
        "mean": scores["mean"],
        **{f"{m} alone": s for m, s in scores["within"].items()},
    }
    for name, value in rows.items():
        table.add_row(name, percent(value))
    Console().print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(scores, indent=1) + "\n")


data = typer.Typer(no_args_is_help=True, help="Make and look at training data.")


@data.command()
def prepare(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe in training/recipes, or a path to one.")],
    cache: CacheOption = Path("runs/cache"),
) -> None:
    """Make the features of every split of a recipe, so that several runs can share them."""
    from training.config import Recipe
    from training.data.generated import GeneratedData

    generated = GeneratedData.of(Recipe.load(recipe).data)
    tokenizer_json = generated.tokenizer_json()
    for split in generated.clips:
        generated.features(split, tokenizer_json, cache)


@data.command()
def world(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the clips and their manifest.jsonl.")],
    clips: Annotated[int, typer.Option(help="How many clips to write.", min=1)] = 28,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 0,
) -> None:
    """Write clips of the generated world as .wav and .mp4 files with their captions, and a sheet of all events."""
    from training.data.clips import write_clips
    from training.data.contact_sheet import write_contact_sheet
    from training.data.world import World

    write_clips(out, World(seed=seed), "test", clips)
    write_contact_sheet(out / "events.png", World(seed=seed))


def _require_seeds_of_one_recipe(recipes: list[Recipe]) -> None:
    """An interval over seeds means something for different seeds of one recipe alone."""
    if len({recipe.training.seed for recipe in recipes}) < len(recipes):
        raise TrainingError("the runs must have different seeds")
    if any(recipe.with_training(seed=0) != recipes[0].with_training(seed=0) for recipe in recipes):
        raise TrainingError("the runs are of different recipes; score them apart")


def _tokenizer_of(checkpoint: Path) -> str:
    try:
        return (checkpoint / "tokenizer.json").read_text()
    except OSError:
        raise TrainingError(
            f"'{checkpoint}' has no tokenizer.json: it was not trained on this data"
        ) from None
