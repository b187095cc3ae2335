"""What is nearly the model is refused: by the export, by `tessera verify`, and by the proof against a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export import signatures
from export.bundle import export_bundle
from export.features import Features
from export.graphs import CodesGraph
from export.onnx import BATCH, TIME, Signature, export_onnx
from export.proof import prove
from export.source import open_source
from export.verify import VerifiedBackbone, verify_backbone, verify_codes, verify_end_to_end
from tessera import Bundle
from tessera.agreement import Allowed, Rule
from tessera.bundle import sha256_of
from tessera.errors import BundleError, TrainingError
from tessera.manifest import AudioSpec, BackboneParity
from tessera.samples import SAMPLES
from tessera.verification import verify_bundle
from tests.export.mutations import Mutation, mutated, mutations, scaled, shifted
from tests.export.worlds import CODES, random_model, recipe_of
from tests.tessera.test_strict_loading import edit_manifest
from tests.tiny import QUICK, QUIET, RECIPE

SPEC = AudioSpec(backbone="classic", sample_rate=16_000, feature_dim=128)
TINY = RECIPE.codebook.size
RECORDED = torch.randn(4, 5, 128, generator=torch.Generator().manual_seed(4))
FEATURES = Features((RECORDED,), segments=700)


class OfItsBatch(CodesGraph):
    """The average of the batch shines through, in torch and in the graph alike."""

    def _latents(self, features: Tensor, mask: Tensor | None = None) -> list[list[Tensor]]:
        return super()._latents(features + features.mean(dim=0, keepdim=True), mask)


class Blind(CodesGraph):
    """Takes padding for sound."""

    def _latents(self, features: Tensor, mask: Tensor | None = None) -> list[list[Tensor]]:
        return super()._latents(features)


def audio_graph(kind: type[CodesGraph] = CodesGraph) -> tuple[CodesGraph, bytes]:
    model = random_model(recipe_of("fcid"))
    module = kind(model, "audio", [range(0, 32, 2)]).eval()
    traced = signatures.codes(SPEC, 1, 16, module.clip_codes)
    return module, export_onnx(module, traced.example, traced.signature, {})


@pytest.fixture(scope="module")
def audio() -> tuple[CodesGraph, bytes]:
    return audio_graph()


@pytest.mark.parametrize(("name", "mutation"), mutations(CODES).items(), ids=lambda value: str(value)[:30])
def test_an_export_that_is_not_the_model(
    audio: tuple[CodesGraph, bytes], name: str, mutation: Mutation
) -> None:
    module, data = audio
    with pytest.raises(TrainingError, match="is not the model"):
        verify_codes(module, mutated(data, mutation), FEATURES)


@pytest.mark.parametrize(("kind", "check"), [(OfItsBatch, "windows alone"), (Blind, "padded windows")])
def test_a_model_that_sees_what_is_not_its_own(kind: type[CodesGraph], check: str) -> None:
    """Torch and the graph say the same of every batch; what they say must not depend on the batch or on padding."""
    module, data = audio_graph(kind)
    with pytest.raises(TrainingError, match=f"{check}, is not the model"):
        verify_codes(module, data, FEATURES)


def test_half_of_the_clip_codes_are_not_hidden_by_all_others(audio: tuple[CodesGraph, bytes]) -> None:
    module, data = audio
    changed = mutated(data, mutations(CODES)["other clip codes"])
    with pytest.raises(TrainingError, match=r"differ \(clips\)"):
        verify_codes(module, changed, FEATURES, "fp16")


def through(module: CodesGraph, data: bytes, moved: float, step: float = 0.0) -> Any:
    """From media to codes, with a backbone's graph whose features are `moved`."""
    report = BackboneParity(segments=20, max_abs=moved, step=step)
    noise = torch.randn(RECORDED.shape, generator=torch.Generator().manual_seed(5))
    return verify_end_to_end(
        module, data, VerifiedBackbone(report, [RECORDED], [RECORDED + moved * noise]), Rule(1e-4)
    )


def test_from_media_to_codes(audio: tuple[CodesGraph, bytes]) -> None:
    module, data = audio
    assert through(module, data, 1e-5).agreement == 1
    with pytest.raises(TrainingError, match="differ from media to codes"):
        through(module, data, 0.5)
    for name in ("other rows", "other clip codes"):
        with pytest.raises(TrainingError, match="differ from media to codes"):
            through(module, mutated(data, mutations(CODES)[name]), 1e-5)
        # What a step of a feature moves explains some codes, and not all of them.
        with pytest.raises(TrainingError, match="differ from media to codes"):
            through(module, mutated(data, mutations(CODES)[name]), 1e-3, step=1.0)


class Rounded(torch.nn.Module):
    """Rounds after it has added what makes a share of all numbers another one."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, waveform: Tensor) -> Tensor:
        return torch.round(waveform + self.amount)


@pytest.mark.parametrize(("amount", "fine"), [(0.001, True), (0.3, False), (1.0, False)])
def test_a_step_is_for_the_few_that_lie_at_an_edge(amount: float, fine: bool) -> None:
    batch = {"waveform": torch.rand(5, 1_280, generator=torch.Generator().manual_seed(0)) * 255}
    signature = Signature({"waveform": (BATCH, TIME)}, {"features": ("batch", "time")})
    data = export_onnx(Rounded(amount), {"waveform": torch.zeros(3, 5)}, signature, {})
    allowed = Allowed(step=1.0)
    if fine:
        report = verify_backbone(Rounded(0.0), data, [batch], allowed).report
        assert 0 < report.stepped < 0.01
    else:
        with pytest.raises(TrainingError, match="rounded to another number"):
            verify_backbone(Rounded(0.0), data, [batch], allowed)


def change(folder: Path, graph: str, mutation: Mutation) -> Bundle:
    """Change a graph of the bundle in `folder`, and its hash in the manifest with it."""
    path = folder / f"{graph}.onnx"
    path.write_bytes(mutated(path.read_bytes(), mutation))
    edit_manifest(folder, lambda m: m["graphs"][graph].update(sha256=sha256_of(path.read_bytes())))
    return Bundle.load(folder)


def forget_samples(folder: Path) -> None:
    """As a bundle of version 1."""
    edit_manifest(folder, lambda manifest: manifest["files"].pop(SAMPLES))


@pytest.mark.parametrize(("name", "mutation"), mutations(TINY).items(), ids=lambda value: str(value)[:30])
def test_a_bundle_whose_codes_are_not_those_of_torch(
    bundle_copy: Path, name: str, mutation: Mutation
) -> None:
    verify_bundle(Bundle.load(bundle_copy))
    with pytest.raises(BundleError, match=r"audio\.codes"):
        verify_bundle(change(bundle_copy, "audio.codes", mutation))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no numbers", "not numbers"),
        ("other rows", "not the rows of the codebook"),
        ("of its batch", "windows alone"),
    ],
)
def test_a_bundle_without_samples(bundle_copy: Path, name: str, message: str) -> None:
    forget_samples(bundle_copy)
    found = verify_bundle(Bundle.load(bundle_copy))
    assert "stored by torch" not in found["audio"]
    with pytest.raises(BundleError, match=message):
        verify_bundle(change(bundle_copy, "audio.codes", mutations(TINY)[name]))


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (scaled("features", 1.01), "differ by .* from those that torch stored"),
        (shifted("features", float("nan")), "gives values that are not numbers"),
    ],
)
def test_a_backbone_that_differs(bundle_copy: Path, mutation: Mutation, message: str) -> None:
    changed = change(bundle_copy, "audio.backbone", mutation)
    with pytest.raises(BundleError, match=rf"audio\.backbone.* {message}"):
        verify_bundle(changed)


@pytest.mark.parametrize("graph", ["audio.codes", "audio.backbone"])
def test_a_proof_against_the_checkpoint(bundle_copy: Path, tiny_run: Path, graph: str) -> None:
    output = "latents" if graph == "audio.codes" else "features"
    changed = change(bundle_copy, graph, scaled(output, 1.01))
    with pytest.raises(TrainingError, match=r"is not the model|differ from torch"):
        prove(changed, tiny_run, [], segments=200, clips=1)


def other_frames(manifest: Any) -> None:
    manifest["audio"]["backbone"] = "another"


def other_weights(manifest: Any) -> None:
    manifest["provenance"]["backbones"]["video"] = {"backbone": "vgg19-dcbb9e9d", "files": {}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other_frames, "takes other audio than the backbone"),
        (other_weights, "video backbone that is given is not the one that the bundle says"),
    ],
)
def test_a_proof_with_another_backbone(
    bundle_copy: Path, tiny_run: Path, edit: Callable[[Any], None], message: str
) -> None:
    edit_manifest(bundle_copy, edit)
    with pytest.raises(TrainingError, match=message):
        prove(Bundle.load(bundle_copy), tiny_run, [])


def test_a_proof_with_another_tokeniser(bundle_copy: Path, tiny_run: Path) -> None:
    path = bundle_copy / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    edit_manifest(bundle_copy, lambda m: m["files"].update({path.name: sha256_of(path.read_bytes())}))
    with pytest.raises(TrainingError, match="reads text with other files"):
        prove(Bundle.load(bundle_copy), tiny_run, [])


def test_a_failed_export_leaves_the_older_bundle(
    bundle_copy: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = {path.name: path.read_bytes() for path in bundle_copy.iterdir()}
    own = CodesGraph._quantised

    def other(self: CodesGraph, latents: list[Tensor]) -> tuple[Tensor, ...]:
        codes, *rest = own(self, latents)
        return (codes + torch.compiler.is_exporting(), *rest)

    monkeypatch.setattr(CodesGraph, "_quantised", other)
    with pytest.raises(TrainingError, match="is not the model"):
        export_bundle(open_source(tiny_run, [16]), bundle_copy, QUICK, QUIET)
    assert {path.name: path.read_bytes() for path in bundle_copy.iterdir()} == older
    assert [path.name for path in bundle_copy.parent.iterdir()] == [bundle_copy.name]
