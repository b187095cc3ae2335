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
        (lambda m: m.update(kept_channels=[list(range(15))]), "the outputs of audio.codes"),
        (lambda m: m.update(clip_codes=False), "the outputs of audio.codes"),
        (lambda m: m["graphs"].pop("text.codes"), "graphs are"),
        (lambda m: m.update(video=None), "graphs are"),
        (lambda m: m.update(parity={}), "parity is of"),
        (lambda m: m.update(codebook_sizes=[5], usage={}), "the manifest promises"),
        (lambda m: m.update(codebook_sizes=[0]), "greater than or equal to 1"),
        (lambda m: m["usage"].update(audio=[[1] * 15]), "usage of audio is not of codebooks"),
        (lambda m: m.update(dim=4000), "the manifest promises"),
        (
            lambda m: m["audio"].update(sample_rate=8000),
            r"the inputs of audio.backbone.onnx .*\[batch, 8000\*time\]",
        ),
        (
            lambda m: m["audio"].update(feature_dim=3),
            r"the outputs of audio.backbone.onnx .*\[batch, time, 3\]",
        ),
        (lambda m: m["video"].update(frames_per_segment=16), "the inputs of video.backbone.onnx"),
        (lambda m: m["video"].update(height=1), "the inputs of video.backbone.onnx"),
        (lambda m: m["video"].update(height=0), "greater than or equal to 1"),
        (lambda m: m["video"].update(grid=3), "the outputs of video.backbone.onnx"),
        (lambda m: m["text"].update(feature_dim=3), "the outputs of text.backbone.onnx"),
        (lambda m: m["text"].update(slots=3), "windows of 10 words do not fit 3 slots"),
        (lambda m: m["time_grid"].update(window_segments=0), "window_segments: .*greater than or equal to 1"),
        (lambda m: m["time_grid"].update(hop_sec=-1), "hop_sec: .*greater than 0"),
        (lambda m: m["time_grid"].update(hop_sec=0.5), "the inputs of audio.backbone.onnx"),
        (lambda m: m["time_grid"].update(min_tail_sec=1.5), "a tail of 1.5 s is more than a segment of 1 s"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    bundle_copy: Path,
    edit: Callable[[dict], None],  # type: ignore[type-arg]
    message: str,
) -> None:
    edit_manifest(bundle_copy, edit)
    with pytest.raises(BundleError, match=message) as refused:
        Bundle.load(bundle_copy)
    assert "\n" not in str(refused.value)


def test_graphs_that_do_not_fit_together(bundle_copy: Path) -> None:
    """A codes graph of other features than its backbone gives, whatever the manifest says of them."""
    Bundle.load(bundle_copy)
    edit_manifest(
        bundle_copy,
        lambda m: m["graphs"].update({"audio.codes": m["graphs"]["video.codes"]}),
    )
    with pytest.raises(BundleError, match=r"the inputs of video\.codes\.onnx are features float32"):
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
