"""A bundle of half precision says so, is smaller, and has measured how often its codes are those of full precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.bundle import export_bundle
from export.source import open_source
from tessera import Bundle, Tokenizer
from tessera.agreement import HALF_AGREEMENT
from tessera.errors import BundleError
from tessera.verification import verify_bundle
from tessera.windows import Window
from tests.export.worlds import random_checkpoint, recipe_of
from tests.test_parity import by_torch
from tests.tiny import QUICK, QUIET
from training.data.clips import write_wav
from training.data.world import World

CLIPS = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipe_of("dcid", modalities=["audio", "text"])
    return random_checkpoint(recipe, tmp_path_factory.mktemp("half") / "run")


@pytest.fixture(scope="module")
def bundles(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    settings = {"fp32": QUICK, "fp16": replace(QUICK, precision="fp16")}
    return {
        name: export_bundle(open_source(checkpoint), folder / name, setting, QUIET)
        for name, setting in settings.items()
    }


@pytest.fixture(scope="module")
def windows(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> list[list[Window]]:
    """Of sound files and captions."""
    tokenizer, path = Tokenizer(bundles["fp32"]), tmp_path_factory.mktemp("media") / "clip.wav"
    found = []
    for clip in (World(seed=3, seconds=3).clip("test", 40 + index) for index in range(CLIPS)):
        write_wav(path, clip)
        found += [list(tokenizer.open(path, "audio")), list(tokenizer.open_text(clip.caption))]
    return found


def codes_of(bundle: Bundle, windows: list[list[Window]]) -> list[np.ndarray]:
    tokenizer = Tokenizer(bundle)
    return [np.concatenate([tokenizer.run([window])[0].codes for window in clip]) for clip in windows]


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


def test_its_codes_are_those_of_full_precision(
    bundles: dict[str, Bundle], windows: list[list[Window]]
) -> None:
    whole, half = (np.concatenate(codes_of(bundles[name], windows)) for name in ("fp32", "fp16"))
    assert len(np.unique(whole)) > 2
    assert (whole == half).mean() >= HALF_AGREEMENT


def test_it_is_verified_by_the_rule_of_its_export(bundles: dict[str, Bundle]) -> None:
    for modality, found in verify_bundle(bundles["fp16"]).items():
        stored = found["stored by torch"]
        assert stored.max_abs_latent > 0
        assert stored.max_abs_margin < bundles["fp16"].manifest.parity[modality].epsilon
        assert stored.agreement >= HALF_AGREEMENT


def test_what_is_exact_enough_for_half_precision_is_not_for_full(bundles: dict[str, Bundle]) -> None:
    half = bundles["fp16"]
    epsilons = {m: report.epsilon for m, report in bundles["fp32"].manifest.parity.items()}
    parity = {m: r.model_copy(update={"epsilon": epsilons[m]}) for m, r in half.manifest.parity.items()}
    strict = replace(half, manifest=half.manifest.model_copy(update={"parity": parity}))
    with pytest.raises(BundleError, match="stored by torch"):
        verify_bundle(strict)


def test_raw_media_get_the_codes_of_the_model(
    bundles: dict[str, Bundle], windows: list[list[Window]], checkpoint: Path
) -> None:
    whole = bundles["fp32"]
    for clip, served in zip(windows, codes_of(whole, windows), strict=True):
        codes, margins, _ = by_torch(checkpoint, clip)
        epsilon = whole.manifest.parity[clip[0].modality].epsilon
        assert (margins[codes != served[:, 0]] < epsilon).all()
