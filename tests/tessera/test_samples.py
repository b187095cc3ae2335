"""What a bundle keeps of torch's answers, the noise that is not kept, and features that reach many codes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tessera.bundle import DEMO, Bundle, VideoSpec
from tessera.errors import BundleError
from tessera.manifest import Manifest
from tessera.noise import media_noise, mixed
from tessera.samples import SAMPLES, Sample, pack

FEATURES = np.arange(60, dtype=np.float32).reshape(3, 10, 2)


def demo_with(folder: Path, sample: Sample) -> Bundle:
    """The demo bundle, read as if this were the sample of its sounds."""
    data = pack({"audio": sample})
    (folder / SAMPLES).write_bytes(data)
    bundle = Bundle.load(DEMO)
    files = {**bundle.manifest.files, SAMPLES: hashlib.sha256(data).hexdigest()}
    manifest: Manifest = bundle.manifest.model_copy(update={"files": files})
    return replace(bundle, folder=folder, manifest=manifest)


def sample_of(bundle: Bundle) -> Sample:
    outputs = [tensor.name for tensor in bundle.manifest.graphs["audio.codes"].outputs]
    return Sample(FEATURES, {name: np.ones((3, 10, 1), np.float32) for name in outputs}, FEATURES)


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    packed = sample_of(Bundle.load(DEMO))
    found = Sample.of(demo_with(tmp_path, packed), "audio")
    assert found is not None
    assert np.array_equal(found.features, FEATURES)
    assert found.expected.keys() == packed.expected.keys()


def test_bundles_of_version_1_have_no_samples() -> None:
    assert Sample.of(Bundle.load(DEMO), "audio") is None


def test_samples_that_are_none(tmp_path: Path) -> None:
    whole = sample_of(Bundle.load(DEMO))
    with pytest.raises(BundleError, match="no readable samples of audio"):
        Sample.of(demo_with(tmp_path, replace(whole, expected={})), "audio")
    with pytest.raises(BundleError, match="no readable samples of video"):
        Sample.of(demo_with(tmp_path, whole), "video")
    with pytest.raises(BundleError, match="not numbers"):
        Sample.of(demo_with(tmp_path, replace(whole, noise=FEATURES * np.float32("nan"))), "audio")


def test_noise_is_the_same_everywhere() -> None:
    spec = VideoSpec(backbone="", frames_per_segment=2, height=8, width=8, grid=None, feature_dim=1)
    frames = media_noise(spec, 0, 1, 2, seed=0)["frames"]
    assert frames.shape == (1, 2, 2, 8, 8, 3)
    assert hashlib.sha256(frames.tobytes()).hexdigest()[:16] == "a6b848446c81b635"


def test_mixtures_lie_on_ways_between_what_is_recorded() -> None:
    recorded = np.eye(6, dtype=np.float32)
    windows = mixed(recorded, 4, 5, seed=1)
    assert windows.shape == (4, 5, 6)
    assert np.array_equal(windows, mixed(recorded, 4, 5, seed=1))
    np.testing.assert_allclose(windows.sum(axis=-1), 1, atol=1e-6)
    assert np.abs(windows).max() <= 5
