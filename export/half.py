"""Weights of a graph kept in half precision: half the file, and computed with in full precision as before."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_SMALLEST = 4_096
"""Numbers of a tensor that is worth it: filters of a front end and constants stay as they are."""


def halve_weights(data: bytes) -> bytes:
    """The ONNX file `data` with its large tensors as float16 and a cast behind each, which ONNX Runtime folds away."""
    model = onnx.load_model_from_string(data)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST or not _fits(values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    halved: bytes = model.SerializeToString()
    return halved


def _fits(values: NDArray[np.generic]) -> bool:
    return bool(np.abs(values).max() < np.finfo(np.float16).max)
