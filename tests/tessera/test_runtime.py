"""A device that is not there is a refusal to start, not a silent fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tessera import Bundle, BundleError, RuntimeUnavailable, Tokenizer
from tessera.bundle import DEMO
from tessera.runtime import Graph


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="needs an ONNX Runtime without CUDA"
)
def test_a_missing_gpu_says_what_to_install(bundle_dir: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"tessera\[gpu\]"):
        Tokenizer.load(bundle_dir, device="cuda")


def test_a_graph_that_is_none_is_a_broken_bundle() -> None:
    with pytest.raises(BundleError):
        Graph(b"not a graph")


def test_a_graph_knows_its_names(bundle_dir: Path) -> None:
    graph = Graph(Bundle.load(bundle_dir).graph("text.backbone"))
    assert graph.input_names == ("input_ids", "slots")
    assert graph.output_names == ("features",)
    assert graph.provider == "CPUExecutionProvider"


def test_inputs_that_do_not_fit_are_one_sentence() -> None:
    graph = Graph(Bundle.load(DEMO).graph("audio.codes"))
    with pytest.raises(BundleError, match=r"fails on features \[1, 1, 7\]$"):
        graph.run({"features": np.zeros((1, 1, 7), np.float32)})
