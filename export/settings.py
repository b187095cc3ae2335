"""What the user of `tessera export` chooses, and what is chosen otherwise; without torch, for the help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tessera.manifest import Precision

OPSET = 20
OPSETS = (18, 20, 21, 22, 23, 24)
"""Those that the exporter converts to without fault."""

SEGMENTS_COMPARED = 20_480
"""Random segments of a modality that torch and ONNX Runtime are compared on."""


@dataclass(frozen=True)
class ExportSettings:
    """What is chosen beside the checkpoint, its channels and its backbones.

    `segments` random ones of each modality are compared, and those of `clips` recorded clips. The codes of
    `usage_clips` clips are counted, where there is a world that gives some.
    """

    name: str | None = None
    licence: str | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    opset: int = OPSET
    segments: int = SEGMENTS_COMPARED
    clips: int = 40
    usage_clips: int = 280
