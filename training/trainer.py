"""The training run: which clips when, checkpoints, logs, and a clear end. The steps themselves are in loop.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from tessera.errors import TrainingError
from training.checkpoint import (
    latest_checkpoint,
    load_recipe,
    load_training_state,
    load_weights,
    save_checkpoint,
)
from training.config import Recipe, TrainingConfig
from training.devices import open_fabric
from training.distributed import all_reduce_sum, rank
from training.journal import Journal
from training.loop import Loop, own_batch
from training.models.task import TaskModule
from training.randomness import epoch_order
from training.stopping import StopSignal
from training.widths import require_width

# How many clips are looked at before the first step, and how many at a time.
_STARTING_CLIPS, _STARTING_BATCH = 10_000, 100


class Dataset(Protocol):
    """Clips by number."""

    def __len__(self) -> int:
        """How many clips there are."""

    def batch(self, indices: Tensor) -> Mapping[str, Tensor]:
        """The clips at `indices` i64 [B] as named tensors."""


def train(
    task: TaskModule[Any],
    dataset: Dataset,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool | Path = False,
    extra_files: Mapping[str, str] | None = None,
    console: Console | None = None,
    fabric: Fabric | None = None,
) -> Path:
    """Train `task` in the folder `run` and return its last checkpoint.

    Every `save_every` steps a checkpoint is written, with `extra_files` beside the weights, and `report.html` is
    drawn now and then; `metrics.jsonl` and TensorBoard logs in `logs` grow meanwhile. `resume` goes on from the latest
    checkpoint of `run`, or from the one it names, and ends with the same weights as a run that was never stopped.
    Ctrl-C and SIGTERM save the step that is being made.
    `fabric` says where it computes and in how many processes, each of which calls this; by default, here.

    Raises:
        TrainingError: too few clips, a run that is there already, a loss or gradient that is no number, a
            checkpoint of another recipe or of other data, or one that cannot be written; or the run was stopped.
    """
    config = recipe.training
    if len(dataset) < config.batch_size:
        raise TrainingError(f"{len(dataset)} clips do not fill a batch of {config.batch_size}")
    fabric = fabric or open_fabric(config, "cpu")
    console = console or Console(stderr=True, quiet=rank() > 0)
    if not resume and any(run.glob("step-*")):
        raise TrainingError(f"'{run}' holds a run already: go on with --resume, or choose another folder")
    if not resume and rank() == 0:
        # The others are given the weights of the first when the loop wraps the model.
        with console.status("looking at the clips"):
            task.start(_spread_batches(dataset, recipe))
    loop = Loop(task, recipe, fabric, console)
    extra = extra_files or {}
    first = _resumed(loop, resume if isinstance(resume, Path) else run, extra) if resume else 0
    journal = Journal(run, recipe, first, console)
    with journal, _progress(console, config, first) as show, StopSignal() as stop:
        for step in range(first, config.steps):
            indices = own_batch(sampled_indices(len(dataset), step, config), config.accumulate)
            batch = fabric.to_device(dict(dataset.batch(indices)))
            if step == first:
                _require_fit(batch, recipe)
            last = step + 1 == config.steps
            logged = (step + 1) % config.log_every == 0 or last
            figures = loop.step(step, batch, with_metrics=logged)
            show(figures)
            if logged:
                journal.log(step + 1, figures)
            stopped = _anywhere(stop.asked, fabric) and not last
            if (step + 1) % config.save_every == 0 or last or stopped:
                loop.saved = _save(run, step + 1, loop, extra)
                journal.report()
            if stopped:
                raise TrainingError(
                    f"stopped after step {step + 1}, which is saved; --resume goes on from it"
                )
    assert loop.saved is not None, "the last step saves. This is a bug."
    return loop.saved


def sampled_indices(clips: int, step: int, config: TrainingConfig) -> Tensor:
    """The clips of step `step`, a function of seed and step alone: each epoch is a permutation of its own.

    What does not fill a batch at the end of an epoch is left out of it.
    """
    epoch, position = divmod(step, clips // config.batch_size)
    order = epoch_order(clips, config.seed, epoch)
    return order[position * config.batch_size : (position + 1) * config.batch_size]


def _spread_batches(dataset: Dataset, recipe: Recipe) -> Iterator[Mapping[str, Tensor]]:
    """Every clip once, or of many as many as are enough, evenly spread."""
    count = min(len(dataset), _STARTING_CLIPS)
    chosen = torch.arange(count) * len(dataset) // count
    for indices in torch.split(chosen, _STARTING_BATCH):
        batch = dataset.batch(indices)
        _require_fit(batch, recipe)
        yield batch


def _require_fit(batch: Mapping[str, Tensor], recipe: Recipe) -> None:
    for modality in recipe.modalities:
        if modality not in batch:
            raise TrainingError(f"the data has no {modality}, which the recipe trains on")
        require_width(modality, batch[modality].shape[-1], recipe)


def _resumed(loop: Loop, source: Path, extra: Mapping[str, str]) -> int:
    """Fill `loop` with the checkpoint at `source`, or the latest of that run, and say which step it was saved after."""
    checkpoint = latest_checkpoint(source)
    saved, step = load_recipe(checkpoint)
    if _result_of(saved) != _result_of(loop.recipe):
        raise TrainingError(f"'{checkpoint}' was trained with another recipe; resume it with its own")
    _require_same_data(checkpoint, extra)
    load_weights(checkpoint, loop.task)
    load_training_state(checkpoint, loop.state)
    loop.saved = checkpoint
    return step


def _require_same_data(checkpoint: Path, extra: Mapping[str, str]) -> None:
    """What travelled with a checkpoint must be what travels with the data now; an imported one came without."""
    for name, text in extra.items():
        path = checkpoint / name
        if path.exists() and path.read_text() != text:
            raise TrainingError(
                f"the data are others than '{checkpoint}' was trained on: their {name} is not that of the "
                "checkpoint; start a new run, or give back the data"
            )


def _result_of(recipe: Recipe) -> Recipe:
    """`recipe` without what changes nothing in the steps that are taken: how often it logs and how far it goes."""
    # The cosine reaches zero at the last step, so there the number of steps matters.
    steps = {} if recipe.training.schedule == "cosine" else {"steps": 1}
    return recipe.with_training(log_every=1, save_every=1, **steps)


def _anywhere(here: bool, fabric: Fabric) -> bool:
    """Whether something is so in any process: all of them then end after the same step."""
    flag = torch.tensor(int(here), device=fabric.device)
    all_reduce_sum(flag)
    return bool(flag)


def _save(run: Path, step: int, loop: Loop, extra: Mapping[str, str]) -> Path:
    """The first process writes; if it cannot, all end."""
    failure: TrainingError | None = None
    if rank() == 0:
        try:
            save_checkpoint(run, step, loop.task, loop.recipe, loop.state, extra)
        except TrainingError as error:
            failure = error
    if _anywhere(failure is not None, loop.fabric):
        raise failure or TrainingError(f"the checkpoint of step {step} could not be written")
    return run / f"step-{step:06d}"


@contextmanager
def _progress(console: Console, config: TrainingConfig, first: int) -> Iterator[Any]:
    """A function that shows a step on a progress bar."""
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
    )
    row: TaskID = bar.add_task("train", total=config.steps, completed=first, status="")
    perplexity = ""
    with bar:

        def show(figures: Mapping[str, float]) -> None:
            nonlocal perplexity
            if "codebook/perplexity" in figures:
                perplexity = f", perplexity {figures['codebook/perplexity']:.0f}"
            bar.update(row, advance=1, status=f"loss {figures['loss']:.2f}{perplexity}")

        yield show
