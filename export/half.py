"""Weights of a graph kept in half precision: half the file, and computed with in full precision as before."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from training.backbones.logmel import LogMel

_SMALLEST = 4_096
"""Numbers of a tensor, from which on it is worth it."""


def front_ends(module: nn.Module) -> tuple[str, ...]:
    """What the tensors of a front end begin with, by name: constants of a definition, and no weights."""
    return tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, LogMel))


def halve_weights(data: bytes, exact: tuple[str, ...] = ()) -> bytes:
    """The ONNX file `data` with its large tensors as float16 and a cast behind each, which ONNX Runtime folds away.

    Tensors whose name begins with one of `exact` stay as they are.
    """
    model = onnx.load_model_from_string(data)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if name.startswith(exact) or not _worth(values):
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    halved: bytes = model.SerializeToString()
    return halved


def _worth(values: NDArray[np.generic]) -> bool:
    """Whether it is large, and every number of it fits."""
    large = values.dtype == np.float32 and values.size >= _SMALLEST
    return large and bool(np.abs(values).max() < np.finfo(np.float16).max)
