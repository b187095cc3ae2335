"""The codes graph of every method is its model: at every optimisation level, alone, in a batch, and padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from export import signatures
from export.features import Features
from export.graphs import CodesGraph, needs_maps
from export.onnx import export_onnx, tensor_specs
from export.verify import verify_codes
from tessera.manifest import AudioSpec, TextSpec, VideoSpec
from tessera.windows import Modality
from tests.export.worlds import DIM, random_model, recipe_of
from training.models.hdcid import HDCID
from training.models.task import TaskModule

_RESIDUAL: dict[str, Any] = {"codebook": {"quantizer": "residual"}}
_FSQ: dict[str, Any] = {"codebook": {"quantizer": "fsq"}}
_AUDIO_VIDEO: dict[str, Any] = {"modalities": ["audio", "video"], "half": "fine"}
_AUDIO_TEXT: dict[str, Any] = {"modalities": ["audio", "text"], "half": "coarse"}


def codes_graph(
    model: TaskModule[Any], modality: Modality, slots: int | None = None
) -> tuple[CodesGraph, bytes]:
    """The graph of `model` on every second channel, and its file."""
    kept = [range(0, quantizer.table().shape[1], 2) for quantizer in model.levels()]
    module = CodesGraph(model, modality, kept, slots).eval()
    config = model.recipe.model
    spec = {
        "audio": AudioSpec(backbone="classic", sample_rate=16_000, feature_dim=config.audio_dim),
        "video": VideoSpec(
            backbone="classic",
            frames_per_segment=4,
            height=112,
            width=112,
            grid=7 if needs_maps(model) else None,
            feature_dim=config.video_dim,
        ),
        "text": TextSpec(backbone="classic", feature_dim=config.text_dim, slots=slots),
    }[modality]
    levels = sum(quantizer.levels for quantizer in model.levels())
    traced = signatures.codes(spec, levels, sum(map(len, kept)), module.clip_codes)
    return module, export_onnx(module, traced.example, traced.signature, {})


def features_for(data: bytes) -> Features:
    """Features of unit spread for the graph `data`."""
    ((spec,), _) = tensor_specs(data)
    shape = [int(axis) for axis in spec.shape[2:]]
    return Features((torch.randn(4, 5, *shape, generator=torch.Generator().manual_seed(4)),), segments=700)


@pytest.mark.parametrize(
    ("method", "modality", "slots", "changes"),
    [
        ("dcid", "text", 10, {}),
        ("dcid", "text", None, _RESIDUAL),
        ("dcid", "audio", None, _FSQ),
        ("hdcid", "video", None, {}),
        ("srcid", "text", None, {"codebook": {"quantizer": "residual"}}),
        ("fcid", "audio", None, _AUDIO_VIDEO),
        ("fcid", "text", 10, _AUDIO_TEXT),
        ("fcid", "video", None, _RESIDUAL),
        ("vq", "video", None, {}),
        ("cmcm", "text", None, {}),
        ("canonical", "text", None, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_graph_is_the_model(
    method: str, modality: Modality, slots: int | None, changes: dict[str, Any]
) -> None:
    module, data = codes_graph(random_model(recipe_of(method, **changes)), modality, slots)
    report = verify_codes(module, data, features_for(data))
    assert report.segments >= 700
    assert set(report.optimization) == {"none", "basic", "extended", "all"}
    assert report.alone is not None
    assert report.padded is not None
    assert report.padded.codes >= 4 * 55


def test_a_second_level_of_pictures_sees_more_than_their_mean() -> None:
    model = random_model(recipe_of("hdcid"))
    assert isinstance(model, HDCID)
    assert needs_maps(model)
    assert not needs_maps(random_model(recipe_of("dcid")))
    small = {**recipe_of("hdcid").model.model_dump(), "video_branch": "mean"}
    assert not needs_maps(random_model(recipe_of("hdcid", model=small)))


def test_half_precision_is_a_variant_that_agrees_nearly_always() -> None:
    module, data = codes_graph(random_model(recipe_of("hdcid")), "audio")
    spec = AudioSpec(backbone="classic", sample_rate=16_000, feature_dim=128)
    traced = signatures.codes(spec, levels=2, kept=DIM, clip_codes=False)
    halved = export_onnx(module.halved(), traced.example, traced.signature, {})
    report = verify_codes(module, halved, features_for(data), "fp16")
    assert 0 < report.max_abs_latent < 0.1
    assert report.max_abs_embedding < 1e-5
    assert len(halved) < 0.8 * len(data)
    assert tensor_specs(halved) == tensor_specs(data)
