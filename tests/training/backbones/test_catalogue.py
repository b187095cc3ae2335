"""How backbones are asked for: by name, weights and options, and what a wrong wish is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.backbones.random_weights import write_bert
from training.backbones.bert import bert_tokenizer
from training.backbones.catalogue import (
    audio_backbone,
    build_backbones,
    says,
    text_backbone,
    video_backbone,
)
from training.backbones.choice import Choice
from training.backbones.text_choice import TextChoice
from training.data.generated import train_pieces


@pytest.fixture(scope="module")
def pieces() -> str:
    return train_pieces(["a dog barks", "rain on a roof"]).to_str()


@pytest.mark.parametrize(
    "text", ["classic", "vggish:w.pth", "vgg19:a/b:c.pth,convention=caffe,frames=4", "bert:google-bert/x"]
)
def test_a_choice_is_written_as_it_was_read(text: str) -> None:
    assert str(Choice.parse(text)) == text


def test_weights_may_hold_a_colon() -> None:
    assert Choice.parse("vgg19:C:/x.pth,frames=4") == Choice("vgg19", "C:/x.pth", {"frames": "4"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "backbone '' has no name"),
        (":w.pth", "backbone ':w.pth' has no name"),
        ("vgg19:w.pth,caffe", "'caffe' is not of the form option=value"),
        ("vgg19:w.pth,frames=", "'frames=' is not of the form option=value"),
        ("vgg19:w.pth,frames=1,frames=2", "option 'frames' comes twice"),
        ("vgg16:w.pth", "there is no backbone 'vgg16' for video; there are 'classic' and 'vgg19'"),
        ("vggish:w.pth", "there is no backbone 'vggish' for video"),
        ("classic:w.pth", "backbone 'classic' takes no weights"),
        ("classic,frames=2", "backbone 'classic' has no option 'frames'; it has none"),
        ("vgg19", "backbone 'vgg19' needs weights: vgg19:vgg19-dcbb9e9d.pth"),
        ("vgg19:w.pth,size=2", "backbone 'vgg19' has no option 'size'; it has convention, frames"),
        ("vgg19:w.pth,convention=keras", "convention=keras: 'vgg19' takes torchvision or caffe"),
        ("vgg19:w.pth,frames=0", "frames=0: 'vgg19' takes a whole number from 1 to 240"),
        ("vgg19:w.pth,frames=x", "frames=x: 'vgg19' takes a whole number from 1 to 240"),
        ("vgg19:w.pth", "there is no file of weights 'w.pth'"),
    ],
)
def test_a_wrong_choice_for_video_is_told_why(text: str, sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        video_backbone(text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("vggish", "backbone 'vggish' needs weights: vggish:vggish-10086976.pth"),
        ("vggish:w.pth,relu=maybe", "relu=maybe: 'vggish' takes yes or no"),
        ("vggish:w.pth,pca=p,rounding=up", "rounding=up: 'vggish' takes truncate or round"),
        ("vggish:w.pth,rounding=round", "rounding belongs to the PCA step: give pca=FILE as well"),
    ],
)
def test_a_wrong_choice_for_audio_is_told_why(text: str, sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        audio_backbone(text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpt", "there is no backbone 'gpt' for text; there are 'classic' and 'bert'"),
        ("bert", "backbone 'bert' needs weights: bert:FOLDER"),
        ("classic,words=x.json", "backbone 'classic' has no option 'words'; it has none"),
        ("bert:a b", "there is no folder 'a b', and no model on the hub can have that name"),
    ],
)
def test_a_wrong_choice_for_text_is_told_why(text: str, sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        TextChoice.parse(text)
    assert sentence in str(raised.value)


def test_vgg19_is_built_with_its_options(vgg19_file: Path) -> None:
    spec = video_backbone(f"vgg19:{vgg19_file},convention=caffe,frames=3").spec
    assert (spec.backbone, spec.frames_per_segment) == ("vgg19-caffe", 3)


def test_vggish_is_built_with_its_options(vggish_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    inside = {"pproc.pca_matrix": torch.eye(128), "pproc.pca_means": torch.zeros(128, 1)}
    torch.save(vggish_tensors | inside, tmp_path / "w.pth")
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=2 * np.eye(128), pca_means=np.zeros(128))
    wave = torch.rand(1, 16_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = audio_backbone(f"vggish:{tmp_path / 'w.pth'},relu=no")(waveform=wave)
    for source, gain, rounding in (("inside", 1, "truncate"), (str(tmp_path / "pca.npz"), 2, "round")):
        choice = f"vggish:{tmp_path / 'w.pth'},relu=no,pca={source},rounding={rounding}"
        backbone = audio_backbone(choice)
        assert backbone.spec.backbone == f"vggish-no-relu-pca-{rounding}"
        scaled = ((gain * raw).clamp(-2, 2) + 2) * 255 / 4
        expected = scaled.floor() if rounding == "truncate" else scaled.round()
        assert (backbone(waveform=wave) - expected).abs().max().item() <= 1


def test_the_classic_backbones_are_the_default(pieces: str) -> None:
    backbones = build_backbones(pieces)
    assert [backbones.of(m).spec.backbone for m in ("audio", "video", "text")] == ["classic"] * 3
    assert not any(part.training for part in (backbones.audio, backbones.video, backbones.text))
    ids, slots = torch.tensor([[3, 1]]), torch.eye(2)[None]
    assert torch.equal(backbones.text(input_ids=ids, slots=slots), text_backbone(pieces)(ids, slots))


def test_a_bert_reads_its_own_tokeniser_alone(bert_folder: Path, pieces: str) -> None:
    text = build_backbones(bert_tokenizer(bert_folder), text=f"bert:{bert_folder}").text
    assert (text.spec.backbone, text.spec.feature_dim, text.training) == ("bert", 24, False)
    with pytest.raises(TrainingError, match="the tokeniser is not that of the BERT in"):
        build_backbones(pieces, text=f"bert:{bert_folder}")


def test_classic_text_may_bring_a_tokeniser(tmp_path: Path, pieces: str) -> None:
    (tmp_path / "tokenizer.json").write_text(pieces)
    assert TextChoice.parse(f"classic:{tmp_path / 'tokenizer.json'}").tokenizer() == pieces
    assert TextChoice.parse("classic").tokenizer() is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"is no tokenizer\.json that can be read"):
        TextChoice.parse(f"classic:{tmp_path / 'tokenizer.json'}").tokenizer()


def test_every_file_of_a_choice_is_hashed(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("[5]")
    choice = TextChoice.parse(f"bert:{bert_folder},words={tmp_path / 'words.json'}")
    files = choice.files()
    assert files.keys() == {"config.json", "weights", "tokenizer_config.json", "vocab.txt", "words"}
    other = TextChoice.parse(f"bert:{write_bert(tmp_path / 'other', positions=41)}").files()
    assert other["vocab.txt"] == files["vocab.txt"]
    assert other["config.json"] != files["config.json"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("network", "pca"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vggish.pth").write_text(folder)
    choice = Choice.parse(f"vggish:{tmp_path / 'network/vggish.pth'},pca={tmp_path / 'pca/vggish.pth'}")
    files = choice.files()
    assert files == {
        name: hashlib.sha256(text).hexdigest() for name, text in (("weights", b"network"), ("pca", b"pca"))
    }


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("classic", "classic"),
        ("bert:{folder}/w", "bert-50e721e4"),
        ("bert:{folder}/w,words={folder}/words.json", "bert-50e721e4,words"),
        ("vggish:{folder}/w,relu=no,pca=inside,rounding=truncate", "vggish-50e721e4,pca=inside,relu=no"),
        ("vgg19:{folder}/w,frames=16,convention=torchvision", "vgg19-50e721e4"),
        ("vgg19:{folder}/w,frames=8,convention=caffe", "vgg19-50e721e4,convention=caffe,frames=8"),
    ],
)
def test_what_a_store_says_holds_no_path(choice: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_text("w")
    (tmp_path / "words.json").write_text("[5]")
    chosen = Choice.parse(choice.format(folder=tmp_path))
    assert says(chosen, chosen.files()) == said
