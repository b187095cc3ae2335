"""A bundle that is damaged, foreign or dangerous is refused with a sentence that says why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from tessera.bundle import CODEBOOK, MANIFEST, Bundle, TimeGrid, sha256_of
from tessera.errors import BundleError


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_revision_is_the_hash_of_the_manifest(bundle_dir: Path) -> None:
    bundle = Bundle.load(bundle_dir)
    assert bundle.revision == f"sha256:{sha256_of((bundle_dir / MANIFEST).read_bytes())}"


def test_the_codebook_is_cut_to_the_kept_channels(bundle_dir: Path) -> None:
    bundle = Bundle.load(bundle_dir)
    full = load_file(bundle_dir / CODEBOOK)["codebook"]
    kept = list(bundle.manifest.kept_channels[0])
    assert len(kept) < bundle.manifest.dim
    assert np.array_equal(bundle.codebook[0], full[0][:, kept])


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no readable manifest\.json"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["audio.codes.onnx", "text.backbone.onnx", CODEBOOK, "tokenizer.json"])
def test_one_changed_byte_is_noticed(bundle_copy: Path, name: str) -> None:
    data = bytearray((bundle_copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle_copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} has changed"):
        Bundle.load(bundle_copy)


def test_a_missing_file_is_noticed(bundle_copy: Path) -> None:
    (bundle_copy / "video.codes.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        Bundle.load(bundle_copy)


def test_a_link_is_refused(bundle_copy: Path) -> None:
    target = bundle_copy / "audio.codes.onnx"
    elsewhere = target.rename(bundle_copy.parent / "elsewhere.onnx")
    target.symlink_to(elsewhere)
    with pytest.raises(BundleError, match="link"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "sub/file", "..", ".", "", "nul\0", ".hidden", "two\nlines", "x" * 200],
)
def test_a_name_that_is_more_than_a_name_is_refused(bundle_copy: Path, name: str) -> None:
    edit_manifest(bundle_copy, files={name: "0" * 64})
    with pytest.raises(BundleError, match="not a plain file name"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("name", ["tokenizer.json", MANIFEST])
def test_a_pipe_is_not_waited_for(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    os.mkfifo(bundle_copy / name)
    with pytest.raises(BundleError, match="readable"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("changes", [{"schema_version": 3}, {"levels": "many"}, {"surprise": 1}])
def test_another_schema_is_refused(bundle_copy: Path, changes: dict[str, object]) -> None:
    edit_manifest(bundle_copy, **changes)
    with pytest.raises(BundleError, match="schema version 1 to 2"):
        Bundle.load(bundle_copy)


def replace_codebook(folder: Path, data: bytes) -> None:
    (folder / CODEBOOK).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    edit_manifest(folder, files={**files, CODEBOOK: sha256_of(data)})


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 2, 3), "float32"), ((1, 15, 32), "float32"), ((1, 16, 32), "float16")]
)
def test_a_codebook_of_another_shape_is_refused(
    bundle_copy: Path, shape: tuple[int, ...], dtype: str
) -> None:
    replace_codebook(bundle_copy, save({"codebook": np.zeros(shape, dtype)}))
    with pytest.raises(BundleError, match=r"the manifest promises float32 of \(1, 16, 32\)"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("data", [b"", b"\0" * 64, save({"table": np.zeros((1, 16, 32), np.float32)})])
def test_a_file_that_is_no_codebook_is_refused(bundle_copy: Path, data: bytes) -> None:
    replace_codebook(bundle_copy, data)
    with pytest.raises(BundleError, match="holds no readable 'codebook'"):
        Bundle.load(bundle_copy)


def test_a_bundle_without_a_codebook_is_refused(bundle_copy: Path) -> None:
    files = json.loads((bundle_copy / MANIFEST).read_text())["files"]
    edit_manifest(bundle_copy, files={name: files[name] for name in files.keys() - {CODEBOOK}})
    with pytest.raises(BundleError, match=f"names no {CODEBOOK}"):
        Bundle.load(bundle_copy)


@given(st.floats(0.001, 10_000))
def test_every_clip_has_a_segment_and_no_long_rest(duration: float) -> None:
    grid = TimeGrid()
    segments = grid.segments(duration)
    assert segments >= 1
    assert -1.0 < duration - segments < grid.min_tail_sec + 1e-6 or segments == 1


@pytest.mark.parametrize(
    ("duration", "segments"), [(0.01, 1), (1.0, 1), (1.2, 1), (1.25, 2), (9.6, 10), (10.008, 10), (10.5, 11)]
)
def test_the_rest_of_a_clip(duration: float, segments: int) -> None:
    assert TimeGrid().segments(duration) == segments
