"""VGG19 as Keras gives it out, `vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5`, under the names of torchvision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessera.errors import TrainingError
from training.backbones.weights import Weights

SUFFIXES = (".h5", ".hdf5")


def read_keras_vgg(path: Path, blocks: Sequence[tuple[int, int]]) -> Weights:
    """The convolutions of a VGG of `blocks`, `(width, depth)` each.

    Kernels [3, 3, in, out] become [out, in, 3, 3]; the channels of the first one stay blue, green, red.

    Raises:
        TrainingError: the file is missing, damaged, or lacks a layer.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers = {name: _layer(path, file, name) for name, _ in _layers(blocks)}
    except (OSError, RuntimeError):
        raise TrainingError(f"'{path}' is missing, damaged, or no h5 file") from None
    tensors: dict[str, Tensor] = {}
    for name, number in _layers(blocks):
        kernel, bias = layers[name]
        tensors[f"features.{number}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        tensors[f"features.{number}.bias"] = bias
    return Weights(path.name, tensors)


def _layers(blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Keras's name of each convolution, and torchvision's number: between two are a ReLU and maybe a pooling."""
    number = 0
    for block, (_, depth) in enumerate(blocks, 1):
        for layer in range(1, depth + 1):
            yield f"block{block}_conv{layer}", number
            number += 2
        number += 1


def _layer(path: Path, file: Any, name: str) -> tuple[Tensor, Tensor]:
    """The kernel and the bias, which versions of Keras call differently: the one has four axes, the other one."""
    found: list[Any] = []
    # Groups can be gone through; a lone array cannot.
    if hasattr(group := file.get(name), "visititems"):
        group.visititems(lambda _, item: found.append(item) if hasattr(item, "ndim") else None)
    by_axes = [[item for item in found if item.ndim == axes] for axes in (4, 1)]
    if any(len(items) != 1 for items in by_axes):
        raise TrainingError(f"'{path}' is no VGG19 of Keras: it has no kernel and bias of '{name}'")
    kernel, bias = (torch.from_numpy(np.asarray(items[0], np.float32)) for items in by_axes)
    return kernel, bias
