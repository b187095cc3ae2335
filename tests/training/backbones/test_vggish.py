"""VGGish: the log-mel fixture, one patch a second, channels last, the last activation, and the PCA step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from export.onnx import BATCH, FIXED, TIME, Signature, export_onnx
from tessera.errors import TrainingError
from tessera.runtime import Graph
from tests.training.backbones import reference
from tests.training.backbones.parity import require_parity
from training.backbones.logmel import LogMel
from training.backbones.vggish import Pca, Rounding, VGGish
from training.backbones.weights import Weights

# A patch is 96 frames: the last one starts at 95 * 160 and is 400 long.
SAMPLES_OF_A_PATCH = 95 * 160 + 400


@pytest.fixture(scope="module")
def vggish(vggish_tensors: dict[str, Tensor]) -> VGGish:
    return VGGish(Weights("w", vggish_tensors), relu=False).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_patches_of_a_sine_meet_the_fixture(vggish_tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """1 kHz has whole periods both in 0.96 s and in 1 s, so the patches of whole seconds are those of the fixture."""
    wave = torch.sin(2 * np.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000).to(dtype)
    backbone = VGGish(Weights("w", vggish_tensors))
    backbone.log_mel = LogMel(dtype)
    patches = backbone.patches(wave[None])
    assert patches.shape == (3, 96, 64)
    assert patches.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float64 else 1e-3
    statistics = {
        "mean": patches.mean(),
        "std": patches.std(correction=0),
        "min": patches.min(),
        "max": patches.max(),
    }
    expected = {"mean": -3.429619, "std": 2.126577, "min": -4.601163, "max": 4.811118}
    assert {name: value.item() for name, value in statistics.items()} == pytest.approx(
        expected, abs=tolerance
    )
    bands = {0: -4.48313, 10: -3.47829, 18: 2.69300, 19: 4.81112, 20: 4.77504, 21: 2.26222, 24: -2.36048}
    assert {band: patches[0, 0, band].item() for band in bands} == pytest.approx(bands, abs=10 * tolerance)


def test_a_second_is_one_patch_and_its_end_has_no_say(vggish: VGGish) -> None:
    wave = noise(1, 16_000)
    assert vggish.patches(wave).shape == (1, 96, 64)
    behind, within = wave.clone(), wave.clone()
    behind[0, SAMPLES_OF_A_PATCH:] = 0
    within[0, SAMPLES_OF_A_PATCH - 200 :] = 0
    assert torch.equal(vggish.patches(behind), vggish.patches(wave))
    assert not torch.equal(vggish.patches(within), vggish.patches(wave))


def test_features_are_those_of_the_formula(vggish_tensors: dict[str, Tensor], vggish: VGGish) -> None:
    wave = noise(2, 16_000)
    expected = torch.stack(
        [reference.vggish(reference.log_mel(second.numpy()), vggish_tensors) for second in wave]
    )
    features = vggish(waveform=wave)
    assert features.shape == (2, 1, 128)
    assert (features[:, 0] - expected).abs().max() < 1e-3
    assert torch.equal(vggish(waveform=wave.reshape(1, -1))[0], features[:, 0])
    activated = VGGish(Weights("w", vggish_tensors), relu=True).eval()(waveform=wave)
    assert torch.equal(activated, features.clamp(min=0))
    assert features.min().item() < 0


def test_the_spec_names_what_the_features_are(vggish_tensors: dict[str, Tensor], vggish: VGGish) -> None:
    weights, pca = Weights("w", vggish_tensors), Pca(pca_weights())
    assert vggish.spec.backbone == "vggish-no-relu"
    assert VGGish(weights).spec.backbone == "vggish"
    assert VGGish(weights, True, pca).spec.backbone == "vggish-pca-truncate"
    assert (vggish.spec.sample_rate, vggish.spec.feature_dim) == (16_000, 128)


def pca_arrays(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvectors and means; one entry is far out, as in the public file."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(128, 128)) * 0.1
    matrix[127, 3] = 45.0
    return matrix, random.normal(size=128)


def pca_weights() -> Weights:
    matrix, means = pca_arrays()
    return Weights("p", {"pca_eigen_vectors": torch.tensor(matrix), "pca_means": torch.tensor(means)})


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["truncate", "round"]))
def test_pca_is_the_formula(seed: int, rounding: Rounding) -> None:
    matrix, means = pca_arrays()
    embeddings = np.random.default_rng(seed).normal(size=(3, 2, 128)).astype(np.float32)
    scaled = np.empty(embeddings.shape)
    for place in np.ndindex(3, 2):
        for row in range(128):
            y = sum(matrix[row, i] * (float(embeddings[place][i]) - means[i]) for i in range(128))
            scaled[(*place, row)] = (min(2.0, max(-2.0, y)) + 2.0) * 255.0 / 4.0
    expected = np.trunc(scaled) if rounding == "truncate" else np.rint(scaled)
    found = Pca(pca_weights(), rounding)(torch.from_numpy(embeddings)).numpy()
    assert found.min() >= 0
    assert found.max() <= 255
    # Where the formula is at the edge between two numbers, float32 may fall to either side.
    edge = np.abs(scaled - np.rint(scaled)) if rounding == "truncate" else np.abs(scaled % 1 - 0.5)
    assert (found == expected)[edge > 1e-2].all()
    assert np.abs(found - expected).max() <= 1


def test_the_two_ways_to_eight_bits_differ() -> None:
    embeddings = noise(50, 128)
    truncated, rounded = (Pca(pca_weights(), rounding)(embeddings) for rounding in ("truncate", "round"))
    assert set((rounded - truncated).unique().tolist()) == {0.0, 1.0}


def test_features_go_through_the_pca(vggish_tensors: dict[str, Tensor], vggish: VGGish) -> None:
    wave, pca = noise(1, 16_000), Pca(pca_weights(), "round")
    found = VGGish(Weights("w", vggish_tensors), False, pca).eval()(waveform=wave)
    assert torch.equal(found, pca(vggish(waveform=wave)))


@pytest.mark.parametrize("form", ["npz", "torch", "arrays", "inside"])
def test_every_file_of_a_pca_is_read(tmp_path: Path, form: str) -> None:
    matrix, means = pca_arrays()
    path = tmp_path / ("pca.npz" if form == "npz" else "pca.pth")
    if form == "npz":
        np.savez(path, pca_eigen_vectors=matrix, pca_means=means.reshape(128, 1))
    elif form == "arrays":
        # As the public file is: arrays, not tensors, in the format of its time.
        arrays = {"pca_eigen_vectors": matrix, "pca_means": means}
        torch.save(arrays, path, _use_new_zipfile_serialization=False)
    else:
        names = (
            ("pproc.pca_matrix", "pproc.pca_means")
            if form == "inside"
            else ("pca_eigen_vectors", "pca_means")
        )
        torch.save(dict(zip(names, (torch.tensor(matrix), torch.tensor(means)[:, None]), strict=True)), path)
    pca = Pca(Weights.read(path))
    assert np.array_equal(pca.matrix.numpy(), matrix.astype(np.float32))
    assert np.array_equal(pca.means.numpy(), means.astype(np.float32))


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, "'p' holds no PCA: neither 'pca_eigen_vectors' nor 'pproc.pca_matrix' is in it"),
        (
            {"pca_eigen_vectors": torch.zeros(64, 128)},
            "'pca_eigen_vectors' is [64, 128], expected [128, 128]",
        ),
        ({"pca_eigen_vectors": torch.zeros(128, 128)}, "'p' has no 'pca_means' of 128 numbers"),
    ],
)
def test_what_is_no_pca_is_refused(tensors: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        Pca(Weights("p", tensors))
    assert sentence in str(raised.value)


def test_a_pca_inside_the_weights_may_be_left_out(vggish_tensors: dict[str, Tensor]) -> None:
    inside = {"pproc.pca_matrix": torch.eye(128), "pproc.pca_means": torch.zeros(128, 1)}
    assert VGGish(Weights("w", vggish_tensors | inside)).pca is None


def test_other_tables_are_refused(vggish_tensors: dict[str, Tensor]) -> None:
    short = {name: tensor for name, tensor in vggish_tensors.items() if not name.startswith("embeddings.4")}
    with pytest.raises(TrainingError, match=r"it lacks 'embeddings.4.weight' and 1 more of 18 tensors"):
        VGGish(Weights("w", short))


def test_the_graph_is_the_module(vggish: VGGish) -> None:
    shapes = ((1, 1), (2, 3))
    require_parity(vggish, ({"waveform": noise(b, 16_000 * t, seed=t)} for b, t in shapes))


@pytest.mark.parametrize("rounding", ["truncate", "round"])
def test_the_graph_of_the_pca_is_the_module(rounding: Rounding) -> None:
    pca = Pca(pca_weights(), rounding)
    signature = Signature({"embeddings": (BATCH, TIME, FIXED)}, {"features": ("batch", "time", 128)})
    graph = Graph(export_onnx(pca, {"embeddings": noise(3, 5, 128)}, signature, {}))
    for shape in ((1, 1, 128), (4, 10, 128)):
        embeddings = noise(*shape)
        found = graph.run({"embeddings": embeddings.numpy()})["features"]
        differ = found != pca(embeddings).numpy()
        # At the edge between two numbers it may fall to the other side.
        assert np.abs(found - pca(embeddings).numpy()).max() <= 1
        assert differ.mean() < 0.01
