"""A torch module as ONNX bytes, with its dynamic axes checked: the exporter can freeze one and report success."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.settings import OPSET, OPSETS
from tessera.bundle import TensorSpec
from tessera.errors import TrainingError

_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT8: "uint8",
}


BATCH = Dim("batch", min=1, max=65_536)
TIME = Dim("time", min=1, max=4_096)
TOKENS = Dim("tokens", min=1, max=65_536)
FIXED = Dim.STATIC


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives, axis by axis.

    Axes of inputs are the dynamic ones above (or a multiple of one) or `FIXED`; axes of outputs are `"batch"`,
    `"time"` or a size.
    """

    inputs: Mapping[str, tuple[Any, ...]]
    outputs: Mapping[str, tuple[int | str, ...]]


def export_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    signature: Signature,
    metadata: Mapping[str, str],
    opset: int = OPSET,
) -> bytes:
    """`module` as one self-contained ONNX file, traced at `example` (every dynamic axis longer than one there).

    Raises:
        TrainingError: an axis that should be dynamic came out fixed, or there is no such `opset`.
    """
    if opset not in OPSETS:
        raise TrainingError(f"opset {opset} cannot be exported; known: {', '.join(map(str, OPSETS))}")
    # The exporter notes every operator of packages that are not installed, and its dependencies warn about
    # their future: nothing a user could act on.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            kwargs=dict(example),
            dynamic_shapes=dict(signature.inputs),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "torch.onnx.export with dynamo returns a program. This is a bug."
    model = program.model_proto
    _tidy(model, metadata)
    _require_dynamic(model, signature)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def tensor_specs(model: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of an ONNX file, as the manifest states them."""
    graph = onnx.load_model_from_string(model).graph
    return tuple(map(_tensor_spec, graph.input)), tuple(map(_tensor_spec, graph.output))


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=_DTYPES[tensor.elem_type], shape=shape)


def _tidy(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Drop the trace of the exporter (it names source files of this machine) and state our own metadata."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "tessera"


def _require_dynamic(model: onnx.ModelProto, signature: Signature) -> None:
    for value in model.graph.input:
        for axis, dim in zip(signature.inputs[value.name], value.type.tensor_type.shape.dim, strict=True):
            if axis is not FIXED and not dim.dim_param:
                raise TrainingError(f"the exporter froze axis '{axis.__name__}' of input '{value.name}'")
    for value in model.graph.output:
        for axis, dim in zip(signature.outputs[value.name], value.type.tensor_type.shape.dim, strict=True):
            if isinstance(axis, int) and dim.dim_value != axis:
                raise TrainingError(f"output '{value.name}' has an axis of {dim.dim_value}, not {axis}")
            if isinstance(axis, str):
                if not dim.dim_param:
                    raise TrainingError(f"the exporter froze axis '{axis}' of output '{value.name}'")
                dim.dim_param = axis  # it may have written an expression of its own symbols
