"""A bundle of a model with two levels serves both: from files, from features, over HTTP, and back to embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.bundle import export_bundle
from export.proof import prove
from export.source import open_source
from tessera import Bundle, Tokenizer
from tessera.bundle import MANIFEST
from tessera.errors import BundleError, TrainingError
from tests.export.worlds import CODES, DIM, random_checkpoint, recipe_of
from tests.service.running import running_server
from tests.tiny import QUICK, QUIET
from training.checkpoint import load_model
from training.data.clips import write_mp4, write_wav
from training.data.world import World
from training.toc import select_channels

FIRST, SECOND = 16, 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(recipe_of("hdcid"), tmp_path_factory.mktemp("hdcid"))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = open_source(checkpoint, [FIRST, SECOND])
    return export_bundle(source, tmp_path_factory.mktemp("bundles") / "hdcid", QUICK, QUIET)


def test_the_manifest_has_two_codebooks(bundle: Bundle, checkpoint: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.family, manifest.levels, manifest.codebook_sizes) == ("hdcid", 2, (CODES, CODES))
    assert [len(channels) for channels in manifest.kept_channels] == [FIRST, SECOND]
    assert manifest.toc.keep == (FIRST, SECOND)
    tables = [quantizer.table() for quantizer in load_model(checkpoint)[0].levels()]
    for table, channels, scores in zip(tables, manifest.kept_channels, manifest.toc.scores, strict=True):
        assert list(channels) == select_channels(table, len(channels))
        assert len(scores) == DIM
    assert manifest.video is not None
    assert manifest.video.grid == 7
    assert not manifest.clip_codes


def test_a_manifest_that_hides_codes_of_a_level_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "bundle"))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(
        json.dumps({**manifest, "codebook_sizes": [CODES, CODES - 1], "usage": {}})
    )
    with pytest.raises(BundleError, match=r"holds more codes than the manifest promises, \[24, 23\]"):
        Bundle.load(folder)


def test_features_get_the_codes_of_the_model(bundle: Bundle, checkpoint: Path) -> None:
    model, _, _ = load_model(checkpoint)
    tokenizer = Tokenizer(bundle)
    generator = torch.Generator().manual_seed(3)
    for modality, shape in (("audio", (128,)), ("video", (7, 7, 48)), ("text", (128,))):
        features = torch.randn(7, *shape, generator=generator)
        with torch.no_grad():
            expected = model.segment_codes(modality, features[None])  # type: ignore[arg-type]
            latents = model.segment_latents(modality, features[None])  # type: ignore[arg-type]
        served = tokenizer.encode_features(modality, features.numpy())  # type: ignore[arg-type]
        differ = served.codes != expected.codes[0].numpy()
        assert (expected.margins[0].numpy()[differ] < bundle.manifest.parity[modality].epsilon).all()
        kept = [z[0][:, list(c)].numpy() for z, c in zip(latents, bundle.manifest.kept_channels, strict=True)]
        assert np.allclose(served.latents, np.concatenate(kept, axis=1), atol=1e-4)
        assert np.allclose(tokenizer.detokenize(served.codes), served.embeddings, atol=1e-6)


def test_files_and_requests_get_both_levels(bundle: Bundle, tmp_path: Path) -> None:
    clip = World(seed=3, seconds=3).clip("test", 40)
    write_wav(tmp_path / "clip.wav", clip)
    write_mp4(tmp_path / "clip.mp4", clip, fps=8, height=112, width=112, with_sound=False)
    tokenizer = Tokenizer(bundle)
    with running_server(bundle.folder) as server:
        for name, kind in (("clip.wav", "audio/wav"), ("clip.mp4", "video/mp4")):
            content = (tmp_path / name).read_bytes()
            codes = tokenizer.encode(content).codes
            assert codes.shape == (3, 2)
            answer = httpx.post(
                f"{server.url}/tokenize", content=content, headers={"Content-Type": kind}, timeout=300
            )
            assert answer.json()["data"][0]["codes"] == codes.tolist()
        (model,) = httpx.get(f"{server.url}/models").json()["data"]
        assert (model["levels"], model["embedding_dim"]) == (2, FIRST + SECOND)


def test_it_is_proven_again_against_its_checkpoint(bundle: Bundle, checkpoint: Path) -> None:
    report = prove(bundle, checkpoint, [], segments=200, clips=1)
    assert set(report.parity) == {"audio", "video", "text"}
    assert report.parity["video"].optimization["none"].codes >= 200


def test_another_checkpoint_is_told_from_it(bundle: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="another kind of model"):
        prove(bundle, random_checkpoint(recipe_of("srcid"), tmp_path / "srcid"), [])
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    tensors["quantizers.1.codebook.sums"] += 1
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(TrainingError, match="codebook of the bundle is not that of the checkpoint"):
        prove(bundle, copy, [])


def test_the_card_says_what_it_is(bundle: Bundle) -> None:
    card = (bundle.folder / "README.md").read_text()
    assert "2 alphabets, one a level" in card
    assert f"{CODES} x {CODES} codes of {DIM} channels, {FIRST}, {SECOND} kept by TOC" in card
    assert "- video: `classic`" in card
    assert "precision | fp32" in card
    assert "not measured" not in card
