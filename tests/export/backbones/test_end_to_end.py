"""Raw media and text through a bundle give the codes of float64 formulas on the same weights, from file to code.

The weights are random, in the files that VGGish, VGG19, BERT and the papers' authors give out.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from torch import Tensor

from export.bundle import ExportSettings, export_bundle
from export.choices import released_choices
from export.source import open_source
from tessera import Tokenizer
from tessera.bundle import AudioSpec, TimeGrid, VideoSpec
from tessera.codes import Encoding
from tessera.limits import Limits
from tessera.media import read_audio, read_video
from tests.export.backbones.conftest import Public
from tests.media_files import chirp, video_file
from tests.training.backbones import reference as networks
from tests.training.released import files, reference
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


def features_of(source: bytes, public: Public) -> dict[str, Tensor]:
    """[1, T, ...] of each modality in float64; of the text with its empty slots."""
    sound, picture = torch.load(public.vggish), torch.load(public.vgg19)
    (waveform,) = read_audio(
        source, AudioSpec(backbone="", sample_rate=16_000, feature_dim=1), TimeGrid(), Limits()
    )
    seconds = waveform.samples.reshape(-1, 16_000)
    spec = VideoSpec(backbone="", frames_per_segment=FRAMES, height=224, width=224, grid=None, feature_dim=1)
    (window,) = read_video(source, spec, TimeGrid(), Limits())
    maps = [[networks.pool5(frame, picture, "caffe") for frame in second] for second in window.frames]
    return {
        "audio": torch.stack([networks.vggish(networks.log_mel(s), sound).clamp(min=0) for s in seconds])[
            None
        ],
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


@dataclass(frozen=True)
class Case:
    """What the bundle says of the film and the text, and the latents and codebooks that it should have used."""

    tokenizer: Tokenizer
    found: dict[str, Encoding]
    segments: dict[str, list[Tensor]]
    clips: dict[str, Tensor]
    tables: list[Tensor]


@pytest.fixture(scope="module", params=["fcid", "hdcid"])
def case(
    request: pytest.FixtureRequest, public: Public, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    kind, folder, source = request.param, tmp_path_factory.mktemp(request.param), film()
    file, features = files.released(kind), features_of(source, public)
    clips: dict[str, Tensor] = {}
    if kind == "fcid":
        segments = {m: [reference.coarse_latents(file, m, x, clip=False)] for m, x in features.items()}
        clips = {m: reference.coarse_latents(file, m, x, clip=True) for m, x in features.items()}
    else:
        segments = {m: reference.latents(file, m, x) for m, x in features.items()}
    levels = len(segments["audio"])
    tables = [codebook_among([*clips.values(), *(z[i] for z in segments.values())], i) for i in range(levels)]
    name = "Cross_quantizer_coarse" if kind == "fcid" else "Cross_quantizer"
    file["Encoder_parameters"][f"{name}.embedding"] = tables[0] if kind == "fcid" else torch.stack(tables)
    checkpoint = folder / "checkpoint"
    import_file(files.write(folder / "released.pt", file), checkpoint, None, public.vocabulary)
    (folder / "released.pt").unlink()
    choices = released_choices(
        str(public.vggish), f"{public.vgg19},convention=caffe,frames={FRAMES}", str(public.wide_bert), None
    )
    settings = ExportSettings(segments=64, clips=1)
    opened = open_source(checkpoint, keep=[128], asked=choices)
    export_bundle(opened, folder / "bundle", settings, Console(quiet=True))
    (checkpoint / "model.safetensors").unlink()
    tokenizer = Tokenizer.load(folder / "bundle")
    (folder / "film.mp4").write_bytes(source)
    found = {
        "audio": tokenizer.encode(folder / "film.mp4", "audio"),
        "video": tokenizer.encode(folder / "film.mp4"),
        "text": tokenizer.encode_text(TEXT),
    }
    words = words_of(features["text"])
    segments["text"] = [z[:, :words] for z in segments["text"]]
    yield Case(tokenizer, found, segments, clips, tables)
    for graph in (folder / "bundle").glob("*.onnx"):
        graph.unlink()


def require_equal(codes: np.ndarray[Any, Any], table: Tensor, latents: Tensor) -> None:
    """But for near ties, of which there may be one."""
    expected, margins = reference.nearest(table, latents)
    sure = (margins >= NEAR_TIE).numpy()
    assert codes.shape == expected.shape
    assert np.array_equal(codes[sure], expected.numpy()[sure])
    assert (~sure).sum() <= 1


def test_codes_are_those_of_the_formulas(case: Case) -> None:
    every: list[int] = []
    for modality, levels in case.segments.items():
        codes = case.found[modality].codes
        assert codes.shape == (levels[0].shape[1], len(levels))
        for level, latents in enumerate(levels):
            require_equal(codes[:, level], case.tables[level], latents[0])
        every += codes[:, 0].tolist()
    assert len(set(every)) > len(every) / 3


def test_latents_are_those_of_the_formulas_on_the_kept_channels(case: Case) -> None:
    kept = case.tokenizer.manifest.kept_channels
    for modality, levels in case.segments.items():
        expected = torch.cat(
            [z[0][:, list(channels)] for z, channels in zip(levels, kept, strict=True)], dim=1
        )
        assert np.abs(case.found[modality].latents - expected.numpy()).max() < 1e-3


def test_clip_codes_are_those_of_the_formulas(case: Case) -> None:
    assert bool(case.clips) == case.tokenizer.manifest.clip_codes
    for modality, latents in case.clips.items():
        clip_codes = case.found[modality].clip_codes
        assert clip_codes is not None
        require_equal(clip_codes, case.tables[0], latents)


def test_the_bundle_says_whose_weights_it_has(case: Case, public: Public) -> None:
    manifest = case.tokenizer.manifest
    assert manifest.text is not None
    assert manifest.text.words == "words.json"
    assert {"words.json", "tokenizer.json"} <= manifest.files.keys()
    backbones = manifest.provenance.backbones
    assert backbones["video"]["backbone"].endswith(",convention=caffe,frames=1")
    assert set(backbones["audio"]["files"]) == {"vggish.pth"}
    assert {"model.safetensors", "text_vocabulary.json"} <= set(backbones["text"]["files"])
    assert manifest.video is not None
    assert manifest.video.grid == (7 if manifest.levels == 2 else None)
