"""Weights of public checkpoints: read without running anything in them, and checked key by key."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tessera.errors import TrainingError

# What a pickled numpy array is made of, under the names that old and new numpy give it. None of them runs code.
_rebuild_array = np.empty(0).__reduce__()[0]
_ARRAYS: list[Any] = [
    (_rebuild_array, "numpy.core.multiarray._reconstruct"),
    (_rebuild_array, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
]


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and the file they are from, for messages."""

    source: str
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tensors and arrays of a `.safetensors` or `.npz` file, or of one of `torch.save`.

        Raises:
            TrainingError: there is no such file, it is damaged, or holds anything else than tensors by name.
        """
        if not path.is_file():
            raise TrainingError(f"there is no file of weights '{path}'")
        if path.suffix == ".safetensors":
            found: object = _read_safetensors(path)
        else:
            found = _read_npz(path) if path.suffix == ".npz" else _read_torch(path)
        if not isinstance(found, Mapping):
            kind = type(found).__name__
            raise TrainingError(f"'{path.name}' holds an object of type {kind}, expected tensors by name")
        return cls(path.name, {str(name): _tensor(path, name, value) for name, value in found.items()})

    def fill(self, module: nn.Module, what: str, unused: Collection[str] = ()) -> None:
        """Give `module`, whose parameters may have no memory yet, the tensors of its own names, as float32.

        `unused` may be there and are left out. `what` names the model in messages.

        Raises:
            TrainingError: a tensor is missing, foreign, or of another shape.
        """
        expected = module.state_dict()
        held = {name: tensor for name, tensor in self.tensors.items() if name not in unused}
        self._require_names(held.keys(), expected.keys(), what)
        for name, tensor in held.items():
            self.require_shape(name, tuple(expected[name].shape))
            held[name] = tensor.to(torch.float32)
        module.load_state_dict(held, assign=True)

    def require_shape(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`.

        Raises:
            TrainingError: there is none, or it has another shape.
        """
        if name not in self.tensors:
            raise TrainingError(f"'{self.source}' has no '{name}'; it has {_some(self.tensors)}")
        found = self.tensors[name]
        if found.shape != shape:
            raise TrainingError(f"'{self.source}': '{name}' is {list(found.shape)}, expected {list(shape)}")
        return found

    def _require_names(self, held: Collection[str], expected: Collection[str], what: str) -> None:
        if missing := [name for name in expected if name not in held]:
            has = _some(held) if held else "no tensors"
            raise TrainingError(
                f"'{self.source}' is no {what}: it lacks {_some(missing)} of {len(expected)} tensors, and has {has}"
            )
        if foreign := [name for name in held if name not in expected]:
            raise TrainingError(f"'{self.source}' is no {what}: it also holds {_some(foreign)}")


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise TrainingError(f"'{path.name}' is damaged, or no safetensors file") from None


def _read_npz(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise TrainingError(f"'{path.name}' is damaged, or no .npz file of plain arrays") from None


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_ARRAYS):
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise TrainingError(
            f"'{path.name}' is damaged, or holds more than tensors, which could run code: refused"
        ) from None
    except Exception:  # Damaged bytes lead to errors of every kind.
        raise TrainingError(f"'{path.name}' is damaged, cut off, or no file of torch.save") from None


def _tensor(path: Path, name: object, value: object) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
        raise TrainingError(f"'{path.name}': '{name}' is no tensor of floating-point numbers")
    return value


def _some(names: Collection[str]) -> str:
    first = next(iter(names))
    return f"'{first}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
