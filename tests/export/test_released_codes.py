"""Codes graphs of released files equal an independent float64 computation, at several shapes, level by level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from export import signatures
from export.graphs import CodesGraph, needs_maps
from export.onnx import export_onnx
from export.source import select_all
from tessera.manifest import AudioSpec, TextSpec, VideoSpec
from tessera.runtime import Graph
from tests.export.released import SHAPES, Released, released
from tests.training.released import files, reference
from training.checkpoint import load_model

KEPT = 128
NEAR_TIE = 1e-4
KINDS = ("dcid", "hdcid", "fcid")
"""The encoders of the others are those of DCID."""


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Released:
    return released(request.param, tmp_path_factory.mktemp("released"))


def spec_of(modality: str, maps: bool) -> AudioSpec | VideoSpec | TextSpec:
    width = SHAPES[modality][-1]
    if modality == "audio":
        return AudioSpec(backbone="vggish", sample_rate=16_000, feature_dim=width)
    if modality == "text":
        return TextSpec(backbone="bert", feature_dim=width, slots=10)
    grid = 7 if maps else None
    return VideoSpec(
        backbone="vgg19", frames_per_segment=1, height=224, width=224, grid=grid, feature_dim=width
    )


def test_codes_equal_the_reference(case: Released) -> None:
    model, _, _ = load_model(case.checkpoint)
    kept = select_all(model, [KEPT], 0.3)
    channels = [selection.kept for selection in kept]
    maps = needs_maps(model)
    assert maps == (case.kind == "hdcid")
    for modality in files.MODALITIES[case.kind]:
        module = CodesGraph(model, modality, channels, 10 if modality == "text" else None).eval()  # type: ignore[arg-type]
        traced = signatures.codes(
            spec_of(modality, maps), len(channels), KEPT * len(channels), module.clip_codes
        )
        graph = Graph(export_onnx(module, traced.example, traced.signature, {}))
        for clips, time in ((1, 1), (2, 3), (2, 10)):
            features = case.features[modality][:clips, :time]
            seen = features.mean((2, 3)) if modality == "video" and not maps else features
            outputs = graph.run({"features": seen.float().numpy()})
            assert_equal(
                outputs,
                ("codes", "margins", "embeddings", "latents"),
                case.latents(modality, features),
                case.tables,
                channels,
            )
            if case.kind == "fcid":
                names = ("clip_code", "clip_margin", "clip_embedding", "clip_latent")
                assert_equal(outputs, names, [case.clip_latents(modality, features)], case.tables, channels)


def assert_equal(
    outputs: dict[str, NDArray[np.generic]],
    names: tuple[str, str, str, str],
    latents: list[Tensor],
    tables: list[Tensor],
    kept: list[tuple[int, ...]],
) -> None:
    """But for near ties, of which there are few."""
    codes, margins, embeddings, kept_latents = (torch.from_numpy(outputs[name]) for name in names)
    for level, (z, table, channels) in enumerate(zip(latents, tables, kept, strict=True)):
        expected, sure = reference.nearest(table, z)
        near = sure < NEAR_TIE
        assert near.sum() <= 1 + near.numel() // 10
        assert torch.equal(codes[..., level][~near], expected[~near])
        torch.testing.assert_close(margins[..., level].double(), sure, atol=2e-3, rtol=1e-3)
        own = slice(level * KEPT, (level + 1) * KEPT)
        torch.testing.assert_close(
            kept_latents[..., own].double(), z[..., list(channels)], atol=1e-4, rtol=1e-4
        )
        rows = table[codes[..., level]][..., list(channels)]
        torch.testing.assert_close(embeddings[..., own].double(), rows, atol=1e-6, rtol=1e-6)
