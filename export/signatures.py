"""The graph signatures of the bundle, with an example of each to trace at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from export.onnx import BATCH, FIXED, TIME, TOKENS, Signature
from tessera.bundle import AudioSpec, TensorSpec, TextSpec, TimeGrid, VideoSpec
from tessera.signatures import backbone_inputs, codes_outputs, feature_shape

_DIMS: Mapping[str, Any] = {"batch": BATCH, "time": TIME, "tokens": TOKENS}

# Every dynamic axis is longer than one and unlike its neighbours, so that none is mistaken for a constant.
_SIZES: Mapping[str, int] = {"batch": 3, "time": 5, "tokens": 7}


@dataclass(frozen=True)
class Traced:
    """A signature and arrays of its shapes."""

    signature: Signature
    example: dict[str, Tensor]


def backbone(spec: AudioSpec | VideoSpec | TextSpec) -> Traced:
    """What the backbone graph of `spec` takes and gives."""
    inputs = backbone_inputs(spec, TimeGrid())
    features: dict[str, tuple[int | str, ...]] = {"features": ("batch", "time", *feature_shape(spec))}
    return Traced(
        Signature({tensor.name: tuple(map(_dim, tensor.shape)) for tensor in inputs}, features),
        {tensor.name: _zeros(tensor) for tensor in inputs},
    )


def codes(spec: AudioSpec | VideoSpec | TextSpec, levels: int, kept: int, clip_codes: bool) -> Traced:
    """What the codes graph behind the backbone of `spec` takes and gives; `kept` channels of an embedding."""
    shape = feature_shape(spec)
    slots = spec.slots if isinstance(spec, TextSpec) else None
    time = TIME if slots is None else Dim("time", min=1, max=slots)
    return Traced(
        Signature(
            {"features": (BATCH, time, *[FIXED] * len(shape))}, codes_outputs(levels, kept, clip_codes)
        ),
        {"features": torch.rand(_SIZES["batch"], _SIZES["time"], *shape)},
    )


def _dim(axis: int | str) -> Any:
    """What the exporter calls an axis of a `TensorSpec`."""
    if isinstance(axis, int):
        return FIXED
    times, _, name = axis.rpartition("*")
    return int(times) * _DIMS[name] if times else _DIMS[name]


def _zeros(tensor: TensorSpec) -> Tensor:
    return torch.zeros(tensor.sized(**_SIZES), dtype=getattr(torch, tensor.dtype))
