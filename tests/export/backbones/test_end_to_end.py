"""Raw media and text through a bundle give the codes of float64 formulas on the same weights, from file to code.

The weights are random, in the files that VGGish, VGG19, BERT and the papers' authors give out.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from export import recorded, signatures
from export.graphs import CodesGraph, needs_maps
from export.onnx import export_onnx
from export.proof import prove
from tessera import Tokenizer
from tessera.bundle import AudioSpec, TimeGrid, VideoSpec
from tessera.cli import build_app
from tessera.codes import Encoding
from tessera.errors import TrainingError
from tessera.features import run_backbone
from tessera.limits import Limits
from tessera.media import read_audio, read_video
from tessera.runtime import Graph
from tessera.text import WordSlots
from tests.export.backbones.conftest import Opened, Public, opened
from tests.media_files import chirp, video_file
from tests.training.backbones import reference as networks
from tests.training.released import files, reference
from training.backbones.bert import bert_tokenizer
from training.checkpoint import load_model
from training.released.importer import import_file

FRAMES, SLOTS, MOST_TOKENS = 1, 10, 23
TEXT = "a dog barks loudly at night the old bell in rain and wind far away a train passes here dog"
NEAR_TIE = 2e-4


def film() -> bytes:
    """Three seconds of moving stripes with a rising tone."""
    rows, columns = np.indices((120, 160))
    waves = [np.sin((columns * (1 + n // 10) + rows * (n // 8) + 9 * n) / 12) for n in range(30)]
    grey = np.stack([(127 + 120 * wave).astype(np.uint8) for wave in waves])
    pictures = np.stack([grey, np.roll(grey, 20, axis=1), 255 - grey], axis=-1)
    return video_file("mp4", pictures, sound=(chirp(3, 44_100), 44_100))


def inputs_of(source: bytes, public: Public) -> dict[str, dict[str, NDArray[Any]]]:
    """A batch of one window of each modality, as it is served."""
    sound_spec = AudioSpec(backbone="", sample_rate=16_000, feature_dim=1)
    (waveform,) = read_audio(source, sound_spec, TimeGrid(), Limits())
    side = {"height": 224, "width": 224, "grid": None, "feature_dim": 1}
    picture_spec = VideoSpec(backbone="", frames_per_segment=FRAMES, **side)
    (window,) = read_video(source, picture_spec, TimeGrid(), Limits())
    listed = pickle.loads(public.vocabulary.read_bytes()).keys() - {0}
    words = WordSlots(bert_tokenizer(public.wide_bert).encode(), TimeGrid(), listed)
    (text,), _ = words.cut(TEXT, Limits(), "none")
    return {
        "audio": {"waveform": waveform.samples[None]},
        "video": {"frames": window.frames[None]},
        "text": {name: array[None] for name, array in text.inputs.items()},
    }


def features_of(source: bytes, public: Public) -> dict[str, Tensor]:
    """[1, T, ...] of each modality in float64; of the text with its empty slots."""
    sound, picture = torch.load(public.vggish), torch.load(public.vgg19)
    inputs = inputs_of(source, public)
    seconds = inputs["audio"]["waveform"][0].reshape(-1, 16_000)
    heard = [networks.vggish(networks.log_mel(second), sound).clamp(min=0) for second in seconds]
    frames = inputs["video"]["frames"][0]
    maps = [[networks.pool5(frame, picture, "caffe") for frame in second] for second in frames]
    return {
        "audio": torch.stack(heard)[None],
        "video": torch.from_numpy(np.asarray(maps).mean(axis=1))[None],
        "text": word_vectors(public),
    }


def word_vectors(public: Public) -> Tensor:
    """By the rule of the published features, with the library's own BERT."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(public.wide_bert)
    bert: Any = transformers.BertModel.from_pretrained(public.wide_bert, attn_implementation="eager")
    pieces = [(n, i) for n, word in enumerate(TEXT.split()) for i in tokenizer(word).input_ids[1:-1]][
        :MOST_TOKENS
    ]
    ids = [tokenizer.cls_token_id, *(i for _, i in pieces), tokenizer.sep_token_id]
    with torch.no_grad():
        hidden = bert.double().eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, 1:-1]
    listed = pickle.loads(public.vocabulary.read_bytes()).keys() - {0}
    split = [n for n, _ in pieces]
    kept = [p for p, (n, i) in enumerate(pieces) if split.count(n) == 1 and i in listed][:SLOTS]
    slots = torch.zeros(1, SLOTS, 768, dtype=torch.float64)
    slots[0, : len(kept)] = hidden[kept]
    return slots


def words_of(features: Tensor) -> int:
    return int((features[0] != 0).any(dim=1).sum())


def codebook_among(latents: list[Tensor], seed: int) -> Tensor:
    """400 codes close to the latents [..., 256], several to each."""
    rows = torch.cat([z.flatten(0, -2) for z in latents])
    noise = torch.randn(files.CODES, 256, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows[torch.arange(files.CODES) % len(rows)] + 0.05 * noise


def tessera(*arguments: object) -> str:
    """What the command prints."""
    done = CliRunner().invoke(build_app(), [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def source() -> bytes:
    return film()


@pytest.fixture(scope="module")
def features(source: bytes, public: Public) -> dict[str, Tensor]:
    return features_of(source, public)


@dataclass(frozen=True)
class Case:
    """What the bundle says of the film and the text, and the latents and codebook that it should have used."""

    tokenizer: Tokenizer
    released: Path
    found: dict[str, Encoding]
    segments: dict[str, Tensor]
    clips: dict[str, Tensor]
    table: Tensor


@pytest.fixture(scope="module")
def case(
    source: bytes, features: dict[str, Tensor], public: Public, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """FCID, exported as a user exports it; of the pictures that are compared, which cost a second each, a few."""
    patch = pytest.MonkeyPatch()
    patch.setattr(recorded, "_PIXELS", 0)
    folder, file = tmp_path_factory.mktemp("fcid"), files.released("fcid")
    segments = {m: reference.coarse_latents(file, m, x, clip=False) for m, x in features.items()}
    clips = {m: reference.coarse_latents(file, m, x, clip=True) for m, x in features.items()}
    segments["text"] = segments["text"][:, : words_of(features["text"])]
    table = codebook_among([*clips.values(), *segments.values()], 0)
    file["Encoder_parameters"]["Cross_quantizer_coarse.embedding"] = table
    released = files.write(folder / "released.pt", file)
    tessera(
        "export", "--released", released, "--text-vocabulary", public.vocabulary, "--keep", 128,
        "--vggish", public.vggish, "--vgg19", f"{public.vgg19},convention=caffe,frames={FRAMES}",
        "--bert", public.wide_bert, "--segments", 64, "--out", folder / "bundle", "--triton", folder / "models",
    )  # fmt: skip
    tokenizer = Tokenizer.load(folder / "bundle")
    (folder / "film.mp4").write_bytes(source)
    found = {
        "audio": tokenizer.encode(folder / "film.mp4", "audio"),
        "video": tokenizer.encode(folder / "film.mp4"),
        "text": tokenizer.encode_text(TEXT),
    }
    yield Case(tokenizer, released, found, segments, clips, table)
    patch.undo()
    released.unlink()
    for made in ("bundle", "models"):
        shutil.rmtree(folder / made)


def require_equal(codes: NDArray[np.int64], table: Tensor, latents: Tensor) -> None:
    """The code is the nearest one, or farther by no more than float32 can tell."""
    expected, _ = reference.nearest(table, latents)
    assert codes.shape == expected.shape
    nearest, found = ((latents - table[c]).norm(dim=-1) for c in (expected, torch.from_numpy(codes)))
    assert (found - nearest).max() < NEAR_TIE


def test_codes_are_those_of_the_formulas(case: Case) -> None:
    every: list[int] = []
    for modality, latents in case.segments.items():
        codes = case.found[modality].codes[:, 0]
        require_equal(codes, case.table, latents[0])
        every += codes.tolist()
    assert len(set(every)) > len(every) / 3


def test_latents_are_those_of_the_formulas_on_the_kept_channels(case: Case) -> None:
    kept = list(case.tokenizer.manifest.kept_channels[0])
    for modality, latents in case.segments.items():
        assert np.abs(case.found[modality].latents - latents[0][:, kept].numpy()).max() < 1e-3


def test_clip_codes_are_those_of_the_formulas(case: Case) -> None:
    for modality, latents in case.clips.items():
        clip_codes = case.found[modality].clip_codes
        assert clip_codes is not None
        require_equal(clip_codes, case.table, latents)


def test_the_bundle_says_whose_weights_it_has(case: Case) -> None:
    manifest = case.tokenizer.manifest
    assert manifest.text is not None
    assert manifest.text.words == "words.json"
    assert {"words.json", "tokenizer.json"} <= manifest.files.keys()
    backbones = manifest.provenance.backbones
    assert backbones["video"]["backbone"].endswith(",convention=caffe,frames=1")
    assert set(backbones["audio"]["files"]) == {"vggish.pth"}
    assert {"model.safetensors", "cnt.pkl"} <= set(backbones["text"]["files"])
    assert manifest.provenance.origin["file"] == "released.pt"


def test_the_bundle_is_whole(case: Case) -> None:
    said = tessera("verify", case.tokenizer.bundle.folder)
    assert "is whole and runs: audio, video, text" in said


def test_a_stranger_proves_whose_codes_they_are(case: Case, public: Public, tmp_path: Path) -> None:
    """With the files of docs/released.md and the bundle that somebody made of them."""
    import_file(case.released, tmp_path / "checkpoint", vocabulary=public.vocabulary)
    audio, text = f"audio=vggish:{public.vggish}", f"text=bert:{public.wide_bert}"
    asked = [audio, f"video=vgg19:{public.vgg19},convention=caffe,frames={FRAMES}", text]
    bundle = case.tokenizer.bundle
    proven = prove(bundle, tmp_path / "checkpoint", asked, segments=64, clips=1)
    assert {m: report.mismatches for m, report in proven.parity.items()} == {
        "audio": 0,
        "video": 0,
        "text": 0,
    }
    with pytest.raises(TrainingError, match="the bundle takes other audio than the backbone that is given"):
        prove(bundle, tmp_path / "checkpoint", [f"{audio},relu=no", *asked[1:]], segments=64, clips=1)


def test_triton_gets_its_models(case: Case) -> None:
    models = case.tokenizer.bundle.folder.parent / "models"
    parts = {
        f"fcid-paper-{m}{part}" for m in ("audio", "video", "text") for part in ("", "-backbone", "-codes")
    }
    assert {model.name for model in models.iterdir()} == parts
    served = models / "fcid-paper-video-backbone" / "1" / "model.onnx"
    assert served.read_bytes() == case.tokenizer.bundle.graph("video.backbone")


def test_two_levels_from_media_to_codes(
    source: bytes,
    features: dict[str, Tensor],
    public: Public,
    vggish: Opened,
    vgg19_maps: Opened,
    tmp_path: Path,
) -> None:
    """H-DCID, whose second level of video goes through convolutions over maps, graph after graph."""
    file = files.released("hdcid")
    latents = {m: reference.latents(file, m, x) for m, x in features.items()}
    latents["text"] = [z[:, : words_of(features["text"])] for z in latents["text"]]
    tables = [codebook_among([levels[i] for levels in latents.values()], i) for i in range(2)]
    file["Encoder_parameters"]["Cross_quantizer.embedding"] = torch.stack(tables)
    import_file(files.write(tmp_path / "released.pt", file), tmp_path / "checkpoint")
    model, _, _ = load_model(tmp_path / "checkpoint")
    assert needs_maps(model)
    bert = opened("text", public.wide_text(f",words={public.vocabulary}"))
    inputs = inputs_of(source, public)
    for modality, backbone, slots in (
        ("audio", vggish, None),
        ("video", vgg19_maps, None),
        ("text", bert, SLOTS),
    ):
        module = CodesGraph(model, modality, [range(256)] * 2, slots).eval()  # type: ignore[arg-type]
        spec = backbone.backbone.spec
        spec = spec.model_copy(update={"slots": slots}) if slots else spec
        traced = signatures.codes(spec, 2, 512, clip_codes=False)
        codes = Graph(export_onnx(module, traced.example, traced.signature, {}))
        found = codes.run(run_backbone(backbone.graph, inputs[modality]))["codes"]
        for level in range(2):
            require_equal(found[0, :, level], tables[level], latents[modality][level][0])
