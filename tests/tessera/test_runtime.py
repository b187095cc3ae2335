"""A device that is not there is a refusal to start, not a silent fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tessera import Bundle, BundleError, RuntimeUnavailable, Tokenizer
from tessera.bundle import DEMO
from tessera.devices import Device, GpuSettings
from tessera.gpu import engine_folder
from tessera.providers import PROVIDERS
from tessera.runtime import Graph
from tessera.verification import noise_of
from tessera.windows import Window
from tests.devices import is_active

CODES = Bundle.load(DEMO).graph("audio.codes")
FEATURES = np.random.default_rng(0).standard_normal((3, 2, 128)).astype(np.float32)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_missing_gpu_says_what_to_install(device: str) -> None:
    if is_active(device):
        pytest.skip("this machine has one")
    with pytest.raises(RuntimeUnavailable, match=rf"^device '{device}.* Install 'tessera\[gpu\]'"):
        Tokenizer.load(device=device)


def test_a_damaged_graph_is_not_a_missing_gpu() -> None:
    with pytest.raises(BundleError):
        Graph(b"not a graph")
    if PROVIDERS["cuda"] in ort.get_available_providers():
        with pytest.raises(BundleError):
            Graph(b"not a graph", "cuda")


def test_a_graph_knows_its_names_and_its_device() -> None:
    graph = Graph(CODES)
    assert graph.input_names == ("features",)
    assert graph.output_names[:4] == ("codes", "margins", "embeddings", "latents")
    assert graph.provider == "CPUExecutionProvider"
    assert graph.device == Device("cpu")


def test_only_the_outputs_that_are_asked_for_come_back() -> None:
    graph = Graph(CODES)
    everything = graph.run({"features": FEATURES})
    assert tuple(everything) == graph.output_names
    chosen = graph.run({"features": FEATURES}, ["margins", "codes"])
    assert list(chosen) == ["margins", "codes"]
    assert all(np.array_equal(chosen[name], everything[name]) for name in chosen)


def test_a_graph_takes_what_another_holds() -> None:
    backbone, codes = Graph(Bundle.load(DEMO).graph("audio.backbone")), Graph(CODES)
    sound = {"waveform": np.random.default_rng(0).standard_normal((2, 32_000)).astype(np.float32)}
    found, expected = codes.run(backbone.hold(sound)), codes.run(backbone.run(sound))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_inputs_that_do_not_fit_are_one_sentence() -> None:
    graph = Graph(CODES)
    for compute in (graph.run, graph.hold):
        with pytest.raises(BundleError, match=r"fails on features \[1, 1, 7\]$"):
            compute({"features": np.zeros((1, 1, 7), np.float32)})


def test_engines_of_one_graph_are_never_those_of_another(tmp_path: Path) -> None:
    one, other = engine_folder(tmp_path, "a" * 64), engine_folder(tmp_path, "b" * 64)
    assert one != other
    assert one.is_dir()
    assert engine_folder(tmp_path, "a" * 64) == one


def test_engines_that_cannot_be_kept_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeUnavailable, match="TESSERA_ENGINE_CACHE"):
        engine_folder(tmp_path / "file", "a" * 64)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_gives_the_codes_of_the_processor(device: str, tmp_path: Path) -> None:
    """Where the second nearest code is not a rounding error away; in batches that are cut and filled."""
    if not is_active(device):
        pytest.skip(f"needs a machine where ONNX Runtime can use {device}")
    gpu = Tokenizer.load(device=device, gpu=GpuSettings(memory_bytes=4 * 2**30, engine_cache=tmp_path))
    cpu = Tokenizer.load()
    assert gpu.providers == [PROVIDERS[Device.parse(device).kind]]
    gpu.warm_up()
    for modality in cpu.modalities:
        for windows in (1, 3):
            batch = noise_of(cpu.bundle, modality, windows, 10)
            inputs = [Window(modality, {name: a[i] for name, a in batch.items()}, 10) for i in range(windows)]
            found, expected = gpu.run(inputs), cpu.run(inputs)
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine.margins, theirs.margins, rtol=1e-3, atol=1e-3)
                sure = theirs.margins > 1e-3
                assert np.array_equal(mine.codes[sure], theirs.codes[sure])
