"""A graph that is not the one that the manifest tells of is refused before it is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tessera.bundle import MANIFEST, Bundle, sha256_of
from tessera.errors import BundleError
from tessera.onnx_header import OnnxHeader

GRAPH = "audio.codes"


def change_graph(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change a graph, and its hash in the manifest with it."""
    path = folder / f"{GRAPH}.onnx"
    model = onnx.load_model(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    edit_manifest(
        folder, lambda manifest: manifest["graphs"][GRAPH].update(sha256=sha256_of(path.read_bytes()))
    )


def edit_manifest(folder: Path, edit: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = "certainties"


def freeze_time(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def claim_another_modality(model: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(
        model, {p.key: p.value for p in model.metadata_props} | {"tessera.modality": "text"}
    )


def keep_weights_elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hide_weights_in_a_branch(model: onnx.ModelProto) -> None:
    """An external tensor in a constant of the branch of a condition, three messages deep."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    constant = onnx.helper.make_node("Constant", [], ["w"], value=tensor)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_output, "other inputs or outputs"),
        (freeze_time, "other inputs or outputs"),
        (claim_another_modality, "metadata say otherwise"),
        (keep_weights_elsewhere, "keeps data in other files"),
        (hide_weights_in_a_branch, "keeps data in other files"),
    ],
)
def test_a_graph_of_another_kind(
    bundle_copy: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    Bundle.load(bundle_copy)
    change_graph(bundle_copy, change)
    with pytest.raises(BundleError, match=f"{GRAPH}.onnx.*{message}"):
        Bundle.load(bundle_copy)


def test_a_file_that_is_no_graph(bundle_copy: Path) -> None:
    path = bundle_copy / f"{GRAPH}.onnx"
    path.write_bytes(b"PK\x03\x04 not a graph")
    edit_manifest(
        bundle_copy, lambda manifest: manifest["graphs"][GRAPH].update(sha256=sha256_of(path.read_bytes()))
    )
    with pytest.raises(BundleError, match="not an ONNX file"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(levels=2), "contradict each other"),
        (lambda m: m.update(kept_channels=[[3, 3]]), "ascending order"),
        (lambda m: m.update(kept_channels=[[0, 32]]), "ascending order"),
        (lambda m: m.update(kept_channels=[list(range(15))]), "outputs of audio.codes"),
        (lambda m: m.update(clip_codes=False), "outputs of audio.codes"),
        (lambda m: m["graphs"].pop("text.codes"), "graphs are"),
        (lambda m: m.update(video=None), "graphs are"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    bundle_copy: Path,
    edit: Callable[[dict], None],  # type: ignore[type-arg]
    message: str,
) -> None:
    edit_manifest(bundle_copy, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle_copy)


def test_a_manifest_that_is_a_link(bundle_copy: Path) -> None:
    manifest = bundle_copy / MANIFEST
    manifest.symlink_to(manifest.rename(bundle_copy.parent / "elsewhere.json"))
    with pytest.raises(BundleError, match="link"):
        Bundle.load(bundle_copy)


def test_the_header_is_what_the_library_reads(bundle_dir: Path) -> None:
    for path in bundle_dir.glob("*.onnx"):
        header, model = OnnxHeader.read(path.read_bytes()), onnx.load_model(path)
        for specs, values in ((header.inputs, model.graph.input), (header.outputs, model.graph.output)):
            assert [spec.name for spec in specs] == [value.name for value in values]
            for spec, value in zip(specs, values, strict=True):
                axes = value.type.tensor_type.shape.dim
                assert list(spec.shape) == [axis.dim_param or axis.dim_value for axis in axes]
        assert header.metadata == {prop.key: prop.value for prop in model.metadata_props}
        assert not header.external_data


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\xff", b"\xff" * 40, b"{}", bytes(range(256))])
def test_anything_else_is_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        OnnxHeader.read(data)
