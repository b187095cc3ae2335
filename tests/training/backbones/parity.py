"""A backbone through the project's own export: the graph has the promised axes and says what torch says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from export import signatures
from export.onnx import export_onnx, tensor_specs
from export.verify import verify_backbone
from training.backbones.backbone import Backbone


def require_parity(backbone: Backbone[Any], batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Export `backbone` and compare it with torch on `batches`."""
    traced = signatures.backbone(backbone.spec)
    model = export_onnx(backbone, traced.example, traced.signature, {})
    _, (output,) = tensor_specs(model)
    assert output.shape[:2] == ("batch", "time")
    verify_backbone(backbone, model, batches)
