"""An export is the model, on every shape; one that is not writes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.bundle import export_bundle
from export.commands import export
from export.features import SHAPES
from export.onnx import BATCH, FIXED, TIME, Signature, export_onnx
from export.revision import code_revision
from export.scores import read_scores
from export.settings import ExportSettings
from export.source import open_source
from export.verify import verify_backbone
from tessera import Bundle, Tokenizer
from tessera.errors import BundleError, TrainingError
from tessera.runtime import OPTIMIZATIONS
from tessera.samples import SAMPLES, Sample
from tests.export.worlds import random_checkpoint, recipe_of
from tests.tiny import QUICK, QUIET, RECIPE
from tests.training.released import files
from training.backbones.classic import ClassicVideo
from training.checkpoint import load_model
from training.data.world import World
from training.toc import select_channels


def test_every_dynamic_axis_has_its_name(bundle_dir: Path) -> None:
    graphs = Bundle.load(bundle_dir).manifest.graphs
    assert set(graphs) == {
        f"{m}.{part}" for m in ("audio", "video", "text") for part in ("backbone", "codes")
    }
    assert [list(t.shape) for t in graphs["audio.backbone"].inputs] == [["batch", "16000*time"]]
    assert [list(t.shape) for t in graphs["text.backbone"].inputs] == [
        ["batch", "tokens"],
        ["batch", "time", "tokens"],
    ]
    for name, graph in graphs.items():
        for tensor in graph.outputs:
            axes = list(tensor.shape)
            assert axes[0] == "batch", name
            assert tensor.name.startswith("clip_") or axes[1] == "time", name
    outputs = {tensor.name: list(tensor.shape)[-1] for tensor in graphs["video.codes"].outputs}
    assert outputs == {
        "codes": 1, "margins": 1, "embeddings": 16, "latents": 16,
        "clip_code": 1, "clip_margin": 1, "clip_embedding": 16, "clip_latent": 16,
    }  # fmt: skip


def test_the_parity_report_is_in_the_manifest(bundle_dir: Path) -> None:
    parity = Bundle.load(bundle_dir).manifest.parity
    for modality, report in parity.items():
        assert {(1, 1), *SHAPES} <= set(report.shapes)
        assert report.segments > 1_000
        assert set(report.optimization) == set(OPTIMIZATIONS)
        whole = report.optimization["all"]
        assert (whole.codes, whole.mismatches) == (report.segments, report.mismatches)
        assert set(whole.parts) == {"segments", "clips"}
        # A tiny codebook of 16, of which noise of their spread reached 4 with sounds, and one clip code; how many
        # exactly is a matter of the processor that trained it.
        assert whole.parts["segments"].distinct >= 6
        assert whole.parts["clips"].distinct >= 3
        assert 0 < whole.max_abs_margin < report.epsilon < 1e-3
        assert report.alone is not None
        assert report.padded is not None
        assert report.backbone is not None
        assert set(report.backbone.optimization) == set(OPTIMIZATIONS)
        assert min(report.backbone.optimization.values()) >= 5
        assert report.backbone.optimization["all"] == report.backbone.segments >= 13
        assert report.end_to_end is not None
        assert report.end_to_end.codes > report.backbone.segments
        assert set(report.peak_memory_mb) == {f"{modality}.backbone", f"{modality}.codes"}
        assert min(report.peak_memory_mb.values()) > 0


def test_the_samples_are_what_torch_says(bundle_dir: Path, tiny_run: Path) -> None:
    bundle, (model, _, _) = Bundle.load(bundle_dir), load_model(tiny_run)
    for modality in bundle.manifest.modalities:
        sample = Sample.of(bundle, modality)
        assert sample is not None
        with torch.no_grad():
            codes = model.segment_codes(modality, torch.from_numpy(sample.features)).codes
        assert np.array_equal(codes.numpy(), sample.expected["codes"])
        assert len(np.unique(sample.expected["codes"])) >= 6
    assert (bundle_dir / SAMPLES).stat().st_size < 8_000_000


def test_torch_and_the_served_path_agree_on_a_real_clip(bundle_dir: Path, tiny_run: Path) -> None:
    """Frames of a clip through torch, and their features through the tokenizer's own path."""
    model, _, _ = load_model(tiny_run)
    tokenizer = Tokenizer.load(bundle_dir)
    clip = World(seed=11).clip("test", 5)
    spec = ClassicVideo.spec
    frames = torch.from_numpy(clip.frames(spec.frames_per_segment, spec.height, spec.width))[None]
    with torch.no_grad():
        features = ClassicVideo().eval()(frames)
        codes, margins = (part[..., 0] for part in model.segment_codes("video", features))
    served = tokenizer.encode_features("video", features[0].numpy())
    differ = codes[0].numpy() != served.codes[:, 0]
    assert (margins[0].numpy()[differ] < tokenizer.manifest.parity["video"].epsilon).all()


def test_the_mask_is_baked_in_after_assignment(bundle_dir: Path, tiny_run: Path) -> None:
    model, _, _ = load_model(tiny_run)
    manifest = Bundle.load(bundle_dir).manifest
    assert manifest.kept_channels[0] == tuple(select_channels(next(model.levels()).table(), 16))
    features = torch.randn(2, 4, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (latents,) = model.segment_latents("text", features)
        codes = model.segment_codes("text", features).codes[..., 0]
    served = Tokenizer.load(bundle_dir).encode_features("text", features[0].numpy())
    assert np.array_equal(served.codes[:, 0], codes[0].numpy())
    kept = list(manifest.kept_channels[0])
    assert np.allclose(served.latents, latents[0][:, kept].numpy(), atol=1e-4)


def test_a_graph_holds_nothing_of_this_machine(bundle_dir: Path) -> None:
    for path in bundle_dir.glob("*.onnx"):
        data = path.read_bytes()
        assert str(Path(__file__).parent.parent).encode() not in data
        assert b"site-packages" not in data
        model = onnx.load_model_from_string(data)
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert {prop.key for prop in model.metadata_props} == {
            "tessera.graph", "tessera.modality", "tessera.precision", "tessera.schema_version",
        }  # fmt: skip


def test_a_failed_parity_writes_nothing(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tolerance is set to what no graph can meet: the failure is real, the folder stays as it was."""
    monkeypatch.setattr("tessera.agreement.TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differ"):
        export_bundle(open_source(tiny_run), tmp_path / "out", QUICK, QUIET)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_not_replaced(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(BundleError, match="neither empty nor a bundle"):
        export_bundle(open_source(tiny_run), tmp_path, QUICK, QUIET)
    assert (tmp_path / "thesis.txt").read_text() == "important"


@pytest.mark.parametrize("keep", [-1, 0, 33])
def test_keeping_more_channels_than_there_are(tiny_run: Path, keep: int) -> None:
    with pytest.raises(TrainingError, match="1 to 32 channels"):
        open_source(tiny_run, [keep])


def test_keeping_channels_of_more_codebooks_than_there_are(tiny_run: Path) -> None:
    with pytest.raises(TrainingError, match=r"1 codebook\(s\) .* 2 numbers"):
        open_source(tiny_run, [16, 8])


def test_scores_of_another_model_are_not_put_on_the_card(tiny_run: Path, tmp_path: Path) -> None:
    scores = {"seeds": [RECIPE.training.seed], "kept_channels": 32, "toc_lambda": 0.3}
    with pytest.raises(TrainingError, match=r"this export is of 0, 16 and 0\.3"):
        export_bundle(open_source(tiny_run, [16]), tmp_path / "out", ExportSettings(scores=scores), QUIET)


def test_scores_that_are_none_are_told_of_first(tmp_path: Path) -> None:
    """Before the checkpoint is looked for, which is not there."""
    interval = {"mean": 0.5, "half_width": None}
    shared = {"seeds": [0], "kept_channels": 16, "toc_lambda": 0.3}
    probe = {
        "clips": {"fit": 8, "test": 8},
        "chance": 0.25,
        "directions": {"audio -> text": interval},
        "mean": interval,
        "within": {"audio": interval},
        "codebook": {"audio": {"size": 16, "used": 3, "perplexity": 2.0}},
        "agreement": {"audio and text": 0.5},
    }
    path = tmp_path / "scores.json"
    for whole in (shared, {**shared, **probe, "tasks": {}}):
        path.write_text(json.dumps(whole))
        assert read_scores(path) == whole
    wrong: list[object] = [
        [],
        3,
        None,
        {**shared, "seeds": 3},
        {**shared, "seeds": []},
        {**shared, "seeds": ["0"]},
    ]
    wrong += [{**shared, **probe, name: None} for name in probe]
    for document in wrong:
        path.write_text(json.dumps(document))
        with pytest.raises(TrainingError, match=r"scores\.json' is no") as refused:
            export(tmp_path / "nowhere", tmp_path / "out", scores=path)
        assert "\n" not in str(refused.value)
    path.write_text("{")
    with pytest.raises(TrainingError, match="not a file of scores that can be read"):
        read_scores(path)


def test_a_place_that_is_taken_is_told_of_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("important")
    with pytest.raises(BundleError, match="is a file; a bundle is a folder"):
        export(tmp_path / "nowhere", tmp_path / "file")


def test_a_repository_that_cannot_take_the_models_is_told_of_first(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny-audio").mkdir(parents=True)
    (tmp_path / "models" / "tiny-audio" / "config.pbtxt").write_text('platform: "tensorrt_plan"\n')
    with pytest.raises(BundleError, match="has a model 'tiny-audio' that is not of a bundle"):
        export(tiny_run, tmp_path / "out", triton=tmp_path / "models")
    assert not (tmp_path / "out").exists()


def test_the_licence_of_weights_that_are_not_ours_is_not_known(bundle_dir: Path, tmp_path: Path) -> None:
    assert Bundle.load(bundle_dir).manifest.licence == "Apache-2.0"
    run = random_checkpoint(recipe_of("dcid", modalities=["audio", "text"]), tmp_path / "run")
    source = open_source(changed_recipe(run, tmp_path, data={}), backbones=open_source(run).backbones)
    bundle = export_bundle(source, tmp_path / "out", replace(QUICK, segments=64, clips=1), QUIET)
    assert bundle.manifest.licence == "unknown"


def test_the_code_that_made_a_bundle_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the repository of a user, in which the command is run or the package is installed."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "c"]
    subprocess.run(commit, check=True, cwd=tmp_path)
    theirs = subprocess.run(
        ["git", "describe", "--always"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    here = code_revision()
    monkeypatch.chdir(tmp_path)
    assert code_revision() == here != theirs.stdout.strip()
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr("export.revision._HOME", tmp_path / "lib")
    assert code_revision() == f"tessera {version('tessera')}"
    monkeypatch.setattr("export.revision._HOME", tmp_path)
    assert code_revision() == theirs.stdout.strip()


def test_a_backbone_that_is_missing_is_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    copy = changed_recipe(tiny_run, tmp_path, data={"store": "stores/ave"})
    with pytest.raises(TrainingError, match=r"needs its backbone for audio.*give --backbone audio="):
        export(copy, tmp_path / "out")


def test_a_backbone_of_another_width_is_refused(tiny_run: Path) -> None:
    narrow = {
        modality: replace(backbone, spec=backbone.spec.model_copy(update={"feature_dim": 12}))
        for modality, backbone in open_source(tiny_run).backbones.items()
    }
    with pytest.raises(TrainingError, match="of 48 channels; those of its backbone have 12"):
        open_source(tiny_run, backbones=narrow)


@pytest.mark.parametrize("both", [True, False])
def test_a_checkpoint_or_a_released_file(tiny_run: Path, tmp_path: Path, both: bool) -> None:
    with pytest.raises(TrainingError, match="give a checkpoint, or a released file"):
        export(tiny_run if both else None, tmp_path / "out", released=tiny_run if both else None)


def test_a_released_file_is_imported_and_asks_for_its_backbones(tmp_path: Path) -> None:
    path = files.write(tmp_path / "released.pt", files.released("dcid-at"))
    asked = "needs its backbone for audio.* takes as --vggish vggish-10086976.pth"
    with pytest.raises(TrainingError, match=asked):
        export(None, tmp_path / "out", released=path)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_schema(tiny_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "schema_version": 99}))
    with pytest.raises(TrainingError, match="schema version 99"):
        open_source(copy)


def changed_recipe(run: Path, folder: Path, **changes: object) -> Path:
    """A copy of a checkpoint whose recipe says something else."""
    copy = Path(shutil.copytree(run, folder / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["recipe"] |= changes
    (copy / "config.json").write_text(json.dumps(config))
    return copy


class _Plus(nn.Module):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, features: Tensor) -> Tensor:
        return features + self.amount


def test_an_opset_that_does_not_convert_is_refused() -> None:
    signature = Signature({"features": (BATCH, TIME, FIXED)}, {"out": ("batch", "time", 4)})
    with pytest.raises(TrainingError, match="opset 19 cannot be exported; known: 18, 20"):
        export_onnx(_Plus(1.0), {"features": torch.zeros(3, 5, 4)}, signature, {}, opset=19)


def test_an_output_of_another_width_is_noticed() -> None:
    signature = Signature({"features": (BATCH, TIME, FIXED)}, {"out": ("batch", "time", 5)})
    with pytest.raises(TrainingError, match="has an axis of 4"):
        export_onnx(_Plus(1.0), {"features": torch.zeros(3, 5, 4)}, signature, {})


def test_a_backbone_that_differs_fails() -> None:
    signature = Signature({"waveform": (BATCH, TIME)}, {"features": ("batch", "time")})

    class Louder(nn.Module):
        def forward(self, waveform: Tensor) -> Tensor:
            return 2 * waveform

    class Same(nn.Module):
        def forward(self, waveform: Tensor) -> Tensor:
            return 1 * waveform

    graph = export_onnx(Louder(), {"waveform": torch.zeros(3, 5)}, signature, {})
    verify_backbone(Louder(), graph, [{"waveform": torch.ones(1, 1)}])
    with pytest.raises(TrainingError, match="differ from torch by 1"):
        verify_backbone(Same(), graph, [{"waveform": torch.ones(1, 1)}])
