"""A bundle of half precision says so, is smaller, and has measured how often its codes are those of full precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.bundle import export_bundle
from export.source import open_source
from tessera import Bundle, Tokenizer
from tests.export.worlds import random_checkpoint, recipe_of
from tests.tiny import QUICK, QUIET


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("half")
    checkpoint = random_checkpoint(recipe_of("vq", modalities=["audio", "text"]), folder / "run")
    settings = {"fp32": QUICK, "fp16": replace(QUICK, precision="fp16")}
    return {
        name: export_bundle(open_source(checkpoint), folder / name, setting, QUIET)
        for name, setting in settings.items()
    }


def size(bundle: Bundle, graph: str) -> int:
    return len(bundle.graph(graph))


def test_it_is_labelled_and_smaller(bundles: dict[str, Bundle]) -> None:
    whole, half = bundles["fp32"], bundles["fp16"]
    assert (whole.manifest.precision, half.manifest.precision) == ("fp32", "fp16")
    assert "precision | fp16" in (half.folder / "README.md").read_text()
    assert size(half, "text.backbone") < 0.6 * size(whole, "text.backbone")
    assert size(half, "text.codes") < 0.8 * size(whole, "text.codes")


def test_the_front_end_is_as_it_was(bundles: dict[str, Bundle]) -> None:
    """The classic backbone for audio is a front end and nothing else."""
    whole, half = (
        {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in onnx.load_model_from_string(data).graph.initializer
        }
        for data in (bundle.graph("audio.backbone") for bundle in bundles.values())
    )
    assert {name for name in whole if name.startswith("log_mel.")} == {"log_mel.kernels", "log_mel.mel"}
    assert whole.keys() == half.keys()
    assert all(np.array_equal(whole[name], half[name]) for name in whole)


def test_its_agreement_is_measured(bundles: dict[str, Bundle]) -> None:
    for report in bundles["fp16"].manifest.parity.values():
        assert report.end_to_end is not None
        assert 0.95 <= report.end_to_end.agreement <= 1
        assert report.max_abs_latent > 0


def test_signatures_and_codebooks_are_the_same(bundles: dict[str, Bundle]) -> None:
    whole, half = bundles["fp32"], bundles["fp16"]
    assert np.array_equal(whole.codebook[0], half.codebook[0])
    for name, graph in whole.manifest.graphs.items():
        assert graph.inputs == half.manifest.graphs[name].inputs
        assert graph.outputs == half.manifest.graphs[name].outputs


def test_it_serves(bundles: dict[str, Bundle]) -> None:
    codes = [Tokenizer(bundle).encode_text("a dog barks in the rain").codes for bundle in bundles.values()]
    assert codes[0].shape == codes[1].shape == (6, 1)
