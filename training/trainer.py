"""The training loop. It knows batches, named losses and optimisers; it knows no modality and no method."""

from __future__ import annotations

import itertools
import math
import signal
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tessera.errors import TrainingError
from training.checkpoint import (
    TrainingState,
    latest_checkpoint,
    load_recipe,
    load_training_state,
    load_weights,
    save_checkpoint,
)
from training.config import Recipe, TrainingConfig
from training.models.task import Losses, TaskModule

_COLLAPSED_PERPLEXITY = 2.0
_COLLAPSE_PATIENCE = 100


class Dataset(Protocol):
    """Clips by number."""

    def __len__(self) -> int:
        """How many clips there are."""

    def batch(self, indices: Tensor) -> Mapping[str, Tensor]:
        """The clips at `indices` i64 [B] as named tensors."""


def train(
    task: TaskModule,
    dataset: Dataset,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool | Path = False,
    extra_files: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> Path:
    """Train `task` in the folder `run` and return its last checkpoint.

    Every `save_every` steps a checkpoint is written, with `extra_files` beside the weights; TensorBoard logs
    go to `run/logs`. `resume` goes on from the latest checkpoint of `run`, or from the one it names, and ends
    with the same weights as a run that was never stopped. Ctrl-C and SIGTERM save the step that is being made.

    Raises:
        TrainingError: too few clips, a run that is there already, a loss or gradient that is no number, a
            checkpoint of another recipe or one that cannot be written; or the run was stopped.
    """
    config = recipe.training
    if len(dataset) < config.batch_size:
        raise TrainingError(f"{len(dataset)} clips do not fill a batch of {config.batch_size}")
    loop = _Loop(task, recipe, console or Console(stderr=True))
    first = loop.resume(resume if isinstance(resume, Path) else run) if resume else loop.begin(run)
    writer = SummaryWriter(str(run / "logs"), purge_step=first)
    with closing(writer), loop.progress(first) as progress, StopSignal() as stop:
        bar = progress.task_ids[0]
        for step in range(first, config.steps):
            batch = dataset.batch(sampled_indices(len(dataset), step, config))
            figures = loop.step(step, batch)
            progress.update(bar, advance=1, status=_status(figures))
            if (step + 1) % config.log_every == 0:
                for name, value in figures.items():
                    writer.add_scalar(name, value, step + 1)
            last = step + 1 == config.steps
            if (step + 1) % config.save_every == 0 or last or stop.asked:
                loop.saved = save_checkpoint(run, step + 1, task, recipe, loop.state, extra_files or {})
            if stop.asked and not last:
                raise TrainingError(
                    f"stopped after step {step + 1}, which is saved; --resume goes on from it"
                )
    assert loop.saved is not None, "the last step saves. This is a bug."
    return loop.saved


def seed_everything(seed: int) -> None:
    """Seed the one generator that training draws from."""
    torch.manual_seed(seed)


def sampled_indices(clips: int, step: int, config: TrainingConfig) -> Tensor:
    """The clips of step `step`, a function of seed and step alone: each epoch is a permutation of its own.

    What does not fill a batch at the end of an epoch is left out of it.
    """
    epoch, position = divmod(step, clips // config.batch_size)
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + epoch) % 2**63)
    order = torch.randperm(clips, generator=generator)
    return order[position * config.batch_size : (position + 1) * config.batch_size]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of step `step`; the cosine ends near zero."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class StopSignal:
    """Ctrl-C and SIGTERM as a question that is answered between two steps, so that nothing is lost by half."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may handle signals; elsewhere nobody can send one either.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


class _Loop:
    """One model with its optimisers."""

    def __init__(self, task: TaskModule, recipe: Recipe, console: Console) -> None:
        self.task, self.recipe, self.console = task, recipe, console
        self.saved: Path | None = None
        self.collapsed_steps = 0
        config = recipe.training
        self.main_modules, self.inner_modules = task.main_modules(), list(task.inner_modules())
        self.main = torch.optim.Adam(_parameters(self.main_modules.values()), lr=config.learning_rate)
        optimizers: dict[str, torch.optim.Optimizer] = {"main": self.main}
        self.inner: torch.optim.Optimizer | None = None
        if self.inner_modules:
            self.inner = torch.optim.Adam(_parameters(self.inner_modules), lr=config.club_learning_rate)
            optimizers["inner"] = self.inner
        self.state = TrainingState(optimizers)

    def begin(self, run: Path) -> int:
        """Start a new run; an older one is not mixed with it."""
        if any(run.glob("step-*")):
            raise TrainingError(f"'{run}' holds a run already: go on with --resume, or choose another folder")
        return 0

    def resume(self, run: Path) -> int:
        """Take up a checkpoint and say which step it was saved after."""
        checkpoint = latest_checkpoint(run)
        saved = load_recipe(checkpoint)
        if _result_of(saved) != _result_of(self.recipe):
            raise TrainingError(f"'{checkpoint}' was trained with another recipe; resume it with its own")
        load_weights(checkpoint, self.task)
        self.saved = checkpoint
        return load_training_state(checkpoint, self.state)

    def step(self, step: int, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """One step in the published order (docs/fcid.md 3.6); returns every loss and metric by name."""
        self.task.train()
        state = self.task.encode(batch)
        inner = self._inner_steps(state)
        losses = self.task.losses(state)
        total = self._total(losses)
        figures = _floats({**inner, **losses, "loss": total})
        self._require_finite(step, {f"loss '{name}'": value for name, value in figures.items()})
        self._main_step(step, total)
        metrics = self.task.metrics(state)
        self._warn_of_collapse(step, metrics)
        return {**figures, **metrics}

    def _inner_steps(self, state: Any) -> Losses:
        """The same batch several times; as published, these gradients are not clipped."""
        losses: Losses = {}
        if self.inner is not None:
            for _ in range(self.recipe.training.club_steps):
                losses = self.task.inner_losses(state)
                self.inner.zero_grad(set_to_none=True)
                torch.stack([*losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
                self.inner.step()
        return losses

    def _main_step(self, step: int, total: Tensor) -> None:
        config = self.recipe.training
        self.main.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norms = _clip(self.main_modules, config.clip_norm)
        # A loss can be finite where its gradient is not: checked before the weights take it up.
        self._require_finite(step, _floats(norms))
        for group in self.main.param_groups:
            group["lr"] = learning_rate(step, config)
        self.main.step()

    def progress(self, first: int) -> Progress:
        progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
        )
        progress.add_task("train", total=self.recipe.training.steps, completed=first, status="")
        return progress

    def _total(self, losses: Losses) -> Tensor:
        weights = self.recipe.losses.weights
        unknown = sorted(set(weights) - set(losses))
        if unknown:
            known = ", ".join(sorted(losses))
            raise TrainingError(f"recipe: losses.weights: there is no loss '{unknown[0]}'; known: {known}")
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def _require_finite(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if not math.isfinite(value):
                good = (
                    f"the last good checkpoint is '{self.saved}'" if self.saved else "nothing was saved yet"
                )
                raise TrainingError(
                    f"step {step + 1}: the {name} is not finite; {good}. A lower learning rate may help"
                )

    def _warn_of_collapse(self, step: int, metrics: Mapping[str, float]) -> None:
        perplexity = metrics.get("codebook/perplexity", math.inf)
        self.collapsed_steps = self.collapsed_steps + 1 if perplexity < _COLLAPSED_PERPLEXITY else 0
        if self.collapsed_steps and self.collapsed_steps % _COLLAPSE_PATIENCE == 0:
            self.console.print(
                f"step {step + 1}: the codebook has collapsed: perplexity below {_COLLAPSED_PERPLEXITY:g} "
                f"for {self.collapsed_steps} steps",
                style="yellow",
            )


def _result_of(recipe: Recipe) -> Recipe:
    """`recipe` without what changes nothing in the steps that are taken: how often it logs and how far it goes."""
    # The cosine reaches zero at the last step, so there the number of steps matters.
    steps = {} if recipe.training.schedule == "cosine" else {"steps": 1}
    return recipe.with_training(log_every=1, save_every=1, **steps)


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return list(itertools.chain.from_iterable(module.parameters() for module in modules))


def _clip(modules: Mapping[str, nn.Module], norm: float) -> dict[str, Tensor]:
    """Clip the gradient of each module apart; returns the norms that they had."""
    return {
        f"gradient of the {name}": nn.utils.clip_grad_norm_(module.parameters(), norm)
        for name, module in modules.items()
    }


def _floats(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """All at once: on an accelerator every single read would wait for the device."""
    values: list[float] = torch.stack([figure.detach() for figure in figures.values()]).tolist()
    return dict(zip(figures, values, strict=True))


def _status(figures: Mapping[str, float]) -> str:
    parts = [f"loss {figures['loss']:.2f}"]
    if "codebook/perplexity" in figures:
        parts.append(f"perplexity {figures['codebook/perplexity']:.0f}")
    return ", ".join(parts)
