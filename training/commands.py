"""`tessera train` and `data`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError
from training.data.archives.command import add_to

require_extra("train", "torch", "sklearn", "tensorboard", "lightning_fabric", "matplotlib", "h5py")


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
    seed: Annotated[int | None, typer.Option(help="Seed of the training.  \\[default: the recipe's]")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train for.  \\[default: the recipe's]")] = None,
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
    store: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder of a feature store to train on.  \\[default: the recipe's]",
            show_default=False,
        ),
    ] = None,
    cache: CacheOption = Path("runs/cache"),
) -> None:
    """Train a model. Stop it at any time; --resume goes on with the same result as if it had never stopped.

    Under torchrun, which starts the processes itself, --devices is what it says.
    """
    import torch

    from training.config import Recipe
    from training.data.sources import on_store, open_source
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
    if store is not None:
        settings = settings.with_data(on_store(settings.data, store.resolve()))
    source = open_source(settings.data)
    fabric = open_fabric(settings.training, device.value, devices)
    # One process makes the features that the others then map.
    with fabric.rank_zero_first():
        clips = source.training_clips(cache)
    seed_everything(settings.training.seed)
    try:
        checkpoint = run(
            build_model(settings),
            clips,
            settings,
            out,
            resume=resume,
            extra_files=source.files(),
            fabric=fabric,
        )
    except TrainingError:
        # What ends a run ends it in all processes; one says why.
        if rank() > 0:
            raise typer.Exit(1) from None
        raise
    if rank() == 0:
        print(checkpoint)


data = typer.Typer(no_args_is_help=True, help="Make, convert and look at training data.")
add_to(data)


@data.command()
def prepare(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe in training/recipes, or a path to one.")],
    cache: CacheOption = Path("runs/cache"),
) -> None:
    """Make the features of every split of a recipe, so that several runs can share them."""
    from training.config import Recipe
    from training.data.generated import GeneratedData

    settings = Recipe.load(recipe)
    if "world" not in settings.data:
        raise TrainingError(
            f"there is nothing to prepare for '{settings.name}': only features of the generated world are made ahead"
        )
    generated = GeneratedData.of(settings.data)
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
