"""One model with its optimisers, taken step by step. It knows batches and named losses; no modality, no method."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from tessera.errors import TrainingError
from training.checkpoint import TrainingState
from training.config import Recipe, TrainingConfig, weight_of
from training.distributed import all_reduce_sum, own_rows, world_size
from training.models.task import Batch, Losses, TaskModule
from training.randomness import begin_step

_COLLAPSED_PERPLEXITY = 2.0
_COLLAPSE_PATIENCE = 100


class Loop:
    """A task on its device, ready to take steps. Every process has one, and all take the same steps."""

    def __init__(self, task: TaskModule[Any], recipe: Recipe, fabric: Fabric, console: Console) -> None:
        self.task, self.recipe, self.fabric, self.console = task, recipe, fabric, console
        self.saved: Path | None = None
        self.collapsed_since: int | None = None
        config = recipe.training
        self.main_modules, self.inner_modules = task.main_modules(), list(task.inner_modules())
        # The auxiliary nets have steps of their own, which the wrapper for many processes must not wait for.
        for net in self.inner_modules:
            net.requires_grad_(False)
        self.module = fabric.setup_module(task)
        for net in self.inner_modules:
            net.requires_grad_(True)
        self.inner_parameters = _parameters(self.inner_modules)
        self.main = torch.optim.Adam(
            _parameters(self.main_modules.values()), lr=config.learning_rate, fused=True
        )
        optimizers: dict[str, torch.optim.Optimizer] = {"main": self.main}
        self.inner: torch.optim.Optimizer | None = None
        if self.inner_parameters:
            self.inner = torch.optim.Adam(self.inner_parameters, lr=config.club_learning_rate, fused=True)
            optimizers["inner"] = self.inner
        self.state = TrainingState(optimizers)

    def step(self, step: int, batch: Batch, with_metrics: bool) -> dict[str, float]:
        """One step in the published order (docs/models.md 3.6) on this process's rows of the batch.

        Returns every loss of the whole batch by name and, if asked for, the metrics.
        """
        self.task.train()
        config = self.recipe.training
        self.main.zero_grad(set_to_none=True)
        figures: Losses = {}
        state: Any = None
        for part in range(config.accumulate):
            rows = {name: tensor.chunk(config.accumulate)[part] for name, tensor in batch.items()}
            last = part + 1 == config.accumulate
            with self.fabric.no_backward_sync(self.module, enabled=not last):
                losses, state = self._part(step, part, rows)
            for name, loss in losses.items():
                figures[name] = figures.get(name, torch.zeros_like(loss)) + loss / config.accumulate
        norms = _clip(self.main_modules, config.clip_norm)
        values, lengths = _means(figures, norms)
        # A loss can be finite where its gradient is not: both are checked before the weights take it up.
        self._require_finite(step, {f"loss '{name}'": value for name, value in values.items()})
        self._require_finite(step, {f"gradient of the {name}": value for name, value in lengths.items()})
        for group in self.main.param_groups:
            group["lr"] = learning_rate(step, config)
        # A gradient of zero would still count as a step of Adam, and spoil its first ones later.
        for parameter in _parameters(self.task.dormant_modules()):
            parameter.grad = None
        self.main.step()
        self.task.observe(values)
        metrics = self.task.metrics(state) if with_metrics else {}
        self._warn_of_collapse(step, metrics)
        return {**values, **metrics}

    def _part(self, step: int, part: int, batch: Batch) -> tuple[Losses, Any]:
        """Forward and backward of one part of a batch; the losses that are logged, and the state."""
        generator = begin_step(self.recipe.training.seed, step, part)
        inner: Losses = {}
        states: list[Any] = []

        def inner_steps(encode: Callable[[], Any]) -> None:
            inner.update(self._inner_steps(encode))

        losses: Losses = self.module(batch, generator, inner_steps, states.append)
        total = self._total(losses)
        self.fabric.backward(total / self.recipe.training.accumulate)
        figures = {**inner, **losses, "loss": total}
        return {name: figure.detach() for name, figure in figures.items()}, states[0]

    def _inner_steps(self, encode: Callable[[], Any]) -> Losses:
        """The same batch several times; as published, these gradients are not clipped."""
        losses: Losses = {}
        if self.inner is None:
            return losses
        for _ in range(self.recipe.training.club_steps):
            losses = self.task.inner_losses(encode())
            self.inner.zero_grad(set_to_none=True)
            torch.stack([*losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
            average_gradients(self.inner_parameters)
            self.inner.step()
            # Autocast keeps what it made of weights; these have just changed.
            torch.clear_autocast_cache()
        return losses

    def _total(self, losses: Losses) -> Tensor:
        weights, factors = self.recipe.losses.weights, self.task.loss_weights()
        for listed in weights:
            if not any(name == listed or name.startswith(f"{listed}/") for name in losses):
                known = ", ".join(sorted(losses))
                raise TrainingError(f"recipe: losses.weights: there is no loss '{listed}'; known: {known}")
        weighted = [
            weight_of(name, weights) * weight_of(name, factors) * loss for name, loss in losses.items()
        ]
        return torch.stack(weighted).sum()

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
        perplexities = [v for name, v in metrics.items() if name.endswith("codebook/perplexity")]
        if not perplexities:
            return
        if min(perplexities) >= _COLLAPSED_PERPLEXITY:
            self.collapsed_since = None
            return
        if self.collapsed_since is None:
            self.collapsed_since = step
        collapsed_steps = step + 1 - self.collapsed_since
        if collapsed_steps >= _COLLAPSE_PATIENCE:
            self.console.print(
                f"step {step + 1}: the codebook has collapsed: perplexity below {_COLLAPSED_PERPLEXITY:g} "
                f"for {collapsed_steps} steps",
                style="yellow",
            )
            self.collapsed_since = step + 1


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of step `step`; the cosine ends near zero."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def own_batch(indices: Tensor, accumulate: int) -> Tensor:
    """Which clips of a batch are this process's: its rows of each part, part after part."""
    return torch.cat([own_rows(part) for part in indices.chunk(accumulate)])


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return list(itertools.chain.from_iterable(module.parameters() for module in modules))


def _clip(modules: Mapping[str, nn.Module], norm: float) -> dict[str, Tensor]:
    """Clip the gradient of each module apart; returns the norms that they had."""
    return {name: nn.utils.clip_grad_norm_(module.parameters(), norm) for name, module in modules.items()}


def _means(*figures: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Means over processes, all at once: on an accelerator every single read would wait for the device."""
    stacked = torch.stack([value.detach().double() for part in figures for value in part.values()])
    all_reduce_sum(stacked)
    values = iter((stacked / world_size()).tolist())
    return [{name: next(values) for name in part} for part in figures]
