"""The graph signatures of the bundle, with an example of each to trace at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim

from export.onnx import BATCH, FIXED, TIME, TOKENS, Signature
from tessera.bundle import AudioSpec, TextSpec, VideoSpec
from tessera.manifest import codes_outputs

# Every dynamic axis is longer than one and unlike its neighbours, so that none is mistaken for a constant.
_BATCH, _TIME, _TOKENS = 3, 5, 7


@dataclass(frozen=True)
class Traced:
    """A signature and arrays of its shapes."""

    signature: Signature
    example: dict[str, Tensor]


def backbone(spec: AudioSpec | VideoSpec | TextSpec) -> Traced:
    """What the backbone graph of `spec` takes and gives."""
    if isinstance(spec, AudioSpec):
        return Traced(
            Signature(
                {"waveform": (BATCH, spec.sample_rate * TIME)},
                {"features": ("batch", "time", spec.feature_dim)},
            ),
            {"waveform": torch.zeros(_BATCH, _TIME * spec.sample_rate)},
        )
    if isinstance(spec, VideoSpec):
        frame = (spec.frames_per_segment, spec.height, spec.width, 3)
        return Traced(
            Signature(
                {"frames": (BATCH, TIME, *[FIXED] * len(frame))},
                {"features": ("batch", "time", *feature_shape(spec))},
            ),
            {"frames": torch.zeros(_BATCH, _TIME, *frame, dtype=torch.uint8)},
        )
    return Traced(
        Signature(
            {"input_ids": (BATCH, TOKENS), "slots": (BATCH, TIME, TOKENS)},
            {"features": ("batch", "time", spec.feature_dim)},
        ),
        {
            "input_ids": torch.zeros(_BATCH, _TOKENS, dtype=torch.int64),
            "slots": torch.zeros(_BATCH, _TIME, _TOKENS),
        },
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
        {"features": torch.rand(_BATCH, _TIME, *shape)},
    )


def feature_shape(spec: AudioSpec | VideoSpec | TextSpec) -> tuple[int, ...]:
    """Shape of the features of one segment."""
    if isinstance(spec, VideoSpec) and spec.grid is not None:
        return spec.grid, spec.grid, spec.feature_dim
    return (spec.feature_dim,)
