"""Checkpoints: a folder `step-001000` with safetensors and a JSON config, complete or not there at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tessera.errors import TrainingError
from training.config import Recipe
from training.models.catalogue import build_model
from training.models.task import TaskModule

SCHEMA_VERSION = 2
CONFIG, MODEL, OPTIMIZER = "config.json", "model.safetensors", "optimizer.safetensors"
ORIGIN = "released.json"
"""Says of an imported checkpoint where it comes from."""


@dataclass(frozen=True)
class TrainingState:
    """What a resumed run needs besides the weights: the optimisers."""

    optimizers: Mapping[str, torch.optim.Optimizer]

    def tensors(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        tensors: dict[str, Tensor] = {}
        for name, optimizer in self.optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put the optimisers back to where `tensors` were taken.

        Raises:
            TrainingError: `tensors` are not those of these optimisers.
        """
        expected = {f"{name}.{index}" for name, index in self._parameters()}
        if not {key.rpartition(".")[0] for key in tensors} <= expected:
            raise TrainingError("the optimiser state of the checkpoint is that of another model")
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                owner, _, rest = key.partition(".")
                if owner == name:
                    index, _, field = rest.partition(".")
                    state.setdefault(int(index), {})[field] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _parameters(self) -> Iterator[tuple[str, int]]:
        for name, optimizer in self.optimizers.items():
            for group in optimizer.state_dict()["param_groups"]:
                yield from ((name, index) for index in group["params"])


def save_checkpoint(
    run: Path, step: int, model: nn.Module, recipe: Recipe, state: TrainingState, extra: Mapping[str, str]
) -> Path:
    """Write the checkpoint of `step` beside its final place and move it there, so that a half is never seen.

    Raises:
        TrainingError: it cannot be written; earlier checkpoints are as they were.
    """
    folder = run / f"step-{step:06d}"
    building = run / f".{folder.name}"
    config = {"schema_version": SCHEMA_VERSION, "step": step, "recipe": recipe.model_dump(mode="json")}
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, building / MODEL)
        save_file({k: v.contiguous() for k, v in state.tensors().items()}, building / OPTIMIZER)
        (building / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        for name, text in extra.items():
            (building / name).write_text(text)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except (OSError, SafetensorError):
        shutil.rmtree(building, ignore_errors=True)
        reason = "is the disk full? Earlier checkpoints are intact"
        raise TrainingError(f"the checkpoint of step {step} cannot be written to '{run}': {reason}") from None
    return folder


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run; a checkpoint that no run went on in is returned as it is.

    Raises:
        TrainingError: there is none.
    """
    found = [folder for folder in run.glob("step-*") if (folder / CONFIG).exists()]
    if not found and (run / CONFIG).exists():
        return run
    if not found:
        raise TrainingError(f"'{run}' holds no checkpoint")
    return max(found, key=lambda folder: (len(folder.name), folder.name))


def load_model(checkpoint: Path) -> tuple[TaskModule[Any], Recipe, int]:
    """The model of a checkpoint in evaluation mode, its recipe and its step.

    Raises:
        TrainingError: the checkpoint is damaged, of another schema version, or of another model.
    """
    recipe, step = load_recipe(checkpoint)
    model = build_model(recipe)
    load_weights(checkpoint, model)
    return model.eval(), recipe, step


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Fill `model` with the weights of a checkpoint.

    Raises:
        TrainingError: they are damaged or of another model.
    """
    tensors, expected = _read_tensors(checkpoint / MODEL), model.state_dict()
    for names, fault in ((expected.keys() - tensors, "lack"), (tensors.keys() - expected, "also hold")):
        if names:
            fault = f"{fault} '{min(names)}' and {len(names) - 1} more"
            raise TrainingError(f"the weights of '{checkpoint}' {fault}; its recipe has another model")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, its recipe says {list(expected[name].shape)}"
            raise TrainingError(f"the weights of '{checkpoint}': '{name}' is {shapes}")
    model.load_state_dict(tensors)


def load_training_state(checkpoint: Path, state: TrainingState) -> None:
    """Restore `state` from a checkpoint; one that was imported has none and starts with fresh optimisers.

    Raises:
        TrainingError: it is damaged.
    """
    if not (checkpoint / OPTIMIZER).exists() and (checkpoint / ORIGIN).exists():
        return
    state.restore(_read_tensors(checkpoint / OPTIMIZER))


def load_recipe(checkpoint: Path) -> tuple[Recipe, int]:
    """The recipe of a checkpoint, and the step it was saved after.

    Raises:
        TrainingError: it has no config that can be read, or one of another schema version.
    """
    try:
        config = json.loads((checkpoint / CONFIG).read_text())
        version, step, recipe = config["schema_version"], int(config["step"]), config["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        raise TrainingError(f"'{checkpoint}' has no {CONFIG} that can be read") from None
    if version != SCHEMA_VERSION:
        reads = f"this Tessera reads {SCHEMA_VERSION}"
        raise TrainingError(f"'{checkpoint}' has schema version {version}, {reads}")
    return Recipe.parse(recipe), step


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise TrainingError(f"'{path}' is missing or damaged") from None
