"""Which backbones go into a bundle: what is asked for, what a checkpoint has by itself, and what fits neither."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from export.backbones import open_backbones
from export.choices import checkpoint_choices, long_forms, parse_choices
from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from tests.export.backbones.conftest import Public
from training.backbones.choice import Choice
from training.config import Recipe

RECIPE = Recipe.parse({"name": "small", "data": {"world": {"seed": 7}, "clips": {"train": 16}}})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_options_become_choices() -> None:
    choices = parse_choices(
        ["text=bert:bert/,words=cnt.pkl", "audio=vggish:a=b.pth,relu=no", "video=classic"]
    )
    assert choices == {
        "text": Choice("bert", "bert/", {"words": "cnt.pkl"}),
        "audio": Choice("vggish", "a=b.pth", {"relu": "no"}),
        "video": Choice("classic", None, {}),
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["vggish:w.pth"], "expected a modality first: audio=vggish:vggish-10086976.pth"),
        (["sound=vggish:w.pth"], "expected a modality first"),
        (["audio"], "expected a modality first"),
        (["audio=classic", "audio=classic"], "there is one for audio already"),
        (["audio="], "has no name"),
        (["audio=vggish:w.pth,relu"], "'relu' is not of the form option=value"),
    ],
)
def test_other_options_are_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        parse_choices(options)


def test_the_short_form_of_released_files(public: Public) -> None:
    short = long_forms(str(public.vggish), f"{public.vgg19},convention=caffe", str(public.bert))
    assert parse_choices(short, public.vocabulary) == {
        "audio": public.audio(),
        "video": public.video(",convention=caffe"),
        "text": public.text(f",words={public.vocabulary}"),
    }
    assert long_forms(None, "vgg19.pth", None) == ["video=vgg19:vgg19.pth"]


def test_short_and_long_forms_are_of_one_kind(public: Public) -> None:
    long = ["audio=classic", f"text=bert:{public.bert}"]
    assert parse_choices(long, public.vocabulary)["text"] == public.text(f",words={public.vocabulary}")
    with pytest.raises(
        TrainingError, match=r"--backbone audio=vggish:w\.pth: there is one for audio already"
    ):
        parse_choices([*long, *long_forms("w.pth", None, None)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give --bert too"),
        (["text=classic"], "give --bert too"),
        (["text=bert:FOLDER,words=ids.json"], r"cnt\.pkl: the BERT has a list of words already"),
    ],
)
def test_a_list_of_words_belongs_to_one_bert(public: Public, options: list[str], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        parse_choices(options, public.vocabulary)


def test_the_files_and_their_digests(public: Public) -> None:
    choices: dict[Modality, Choice] = {
        "audio": public.audio(f",relu=no,pca={public.pca}"),
        "text": public.text(f",words={public.vocabulary}"),
    }
    backbones = open_backbones(choices, video_maps=False)
    assert list(backbones) == ["audio", "text"]
    digest = sha256(public.vggish)
    assert backbones["audio"].provenance == {
        "backbone": f"vggish-{digest[:8]},pca,relu=no",
        "files": {"vggish.pth": digest, "vggish_pca_params.npz": sha256(public.pca)},
    }
    assert not backbones["audio"].files
    names = ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
    assert backbones["text"].provenance == {
        "backbone": f"bert-{sha256(public.bert / 'model.safetensors')[:8]},words",
        "files": {name: sha256(public.bert / name) for name in names}
        | {"cnt.pkl": sha256(public.vocabulary)},
    }
    assert json.loads(backbones["text"].files["words.json"]) == [5, 7, 8, 11, 18, 20, 27, 28]
    assert json.loads(backbones["text"].files["tokenizer.json"])["model"]["type"] == "WordPiece"


def test_two_files_of_one_name_have_both_their_digests(public: Public, tmp_path: Path) -> None:
    pca = {"pproc.pca_matrix": torch.eye(128), "pproc.pca_means": torch.zeros(128)}
    torch.save(pca, tmp_path / "vggish.pth")
    choices: dict[Modality, Choice] = {"audio": public.audio(f",pca={tmp_path / 'vggish.pth'}")}
    assert open_backbones(choices, video_maps=False)["audio"].provenance["files"] == {
        "vggish.pth": sha256(public.vggish),
        "pca=vggish.pth": sha256(tmp_path / "vggish.pth"),
    }


def test_a_model_of_spiked_events_has_no_backbone(tmp_path: Path) -> None:
    recipe = RECIPE.with_data({"spiked": {"seed": 0}})
    with pytest.raises(TrainingError, match="it has no backbones, and cannot be served from media"):
        checkpoint_choices(tmp_path, recipe, {})


def test_words_of_the_generated_world_need_its_tokeniser() -> None:
    with pytest.raises(TrainingError, match=r"needs the tokeniser of the model: classic:tokenizer\.json"):
        open_backbones({"text": Choice.parse("classic")}, video_maps=False)


def test_a_model_of_the_world_brings_its_backbones(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    choices = checkpoint_choices(tmp_path, RECIPE, {})
    assert {modality: str(choice) for modality, choice in choices.items()} == {
        "audio": "classic",
        "video": "classic",
        "text": f"classic:{tmp_path / 'tokenizer.json'}",
    }
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(TrainingError, match=r"has no tokenizer\.json beside its weights"):
        checkpoint_choices(tmp_path, RECIPE, {})


def test_another_backbone_than_that_of_the_world_is_refused(public: Public, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the model learnt from audio features of 'classic'"):
        checkpoint_choices(tmp_path, RECIPE, {"audio": public.audio()})


def test_weights_are_those_that_the_features_were_made_with(public: Public, tmp_path: Path) -> None:
    checkpoint, digest = tmp_path, sha256(public.vggish)[:8]
    features = {"audio": f"vggish-{digest},relu=no", "video": "VGG19, as released", "text": "classic"}
    (checkpoint / "features.json").write_text(json.dumps(features))
    recipe = RECIPE.with_data({"store": "stores/ave"})
    (checkpoint / "tokenizer.json").write_text("{}")
    asked: dict[Modality, Choice] = {"audio": public.audio(",relu=no"), "video": public.video()}
    choices = checkpoint_choices(checkpoint, recipe, asked)
    assert [str(choices[modality]) for modality in MODALITIES] == [
        str(asked["audio"]), str(asked["video"]), f"classic:{checkpoint / 'tokenizer.json'}",
    ]  # fmt: skip
    found = f"the backbone that is given makes 'vggish-{digest}'"
    with pytest.raises(TrainingError, match=f"features of 'vggish-{digest},relu=no'; {found}"):
        checkpoint_choices(checkpoint, recipe, {**asked, "audio": public.audio()})
    with pytest.raises(TrainingError, match="learnt from text features of 'classic'"):
        checkpoint_choices(checkpoint, recipe, {**asked, "text": public.text()})
    said = "whose features are 'VGG19, as released': give --backbone video=vgg19:"
    with pytest.raises(TrainingError, match=said):
        checkpoint_choices(checkpoint, recipe, {"audio": asked["audio"]})


def test_a_checkpoint_that_says_nothing_of_its_features(public: Public, tmp_path: Path) -> None:
    recipe = RECIPE.with_data({})
    asked: dict[Modality, Choice] = {"audio": public.audio(), "video": public.video(), "text": public.text()}
    assert checkpoint_choices(tmp_path, recipe, asked) == asked
    with pytest.raises(TrainingError, match="needs its backbone for text: give --backbone text=bert:"):
        checkpoint_choices(tmp_path, recipe, {"audio": public.audio(), "video": public.video()})


def test_the_list_of_words_beside_the_weights_belongs_to_the_bert(public: Public, tmp_path: Path) -> None:
    recipe = RECIPE.with_data({})
    asked: dict[Modality, Choice] = {"audio": public.audio(), "video": public.video(), "text": public.text()}
    words = tmp_path / "text_vocabulary.json"
    words.write_text("[5, 7]")
    assert checkpoint_choices(tmp_path, recipe, asked)["text"] == public.text(f",words={words}")
    own = {**asked, "text": public.text(f",words={public.vocabulary}")}
    assert checkpoint_choices(tmp_path, recipe, own)["text"] == own["text"]


def test_a_backbone_that_the_model_has_no_use_for_is_refused(public: Public, tmp_path: Path) -> None:
    recipe = Recipe.parse({**RECIPE.model_dump(), "modalities": ["audio", "video"], "half": "fine"})
    with pytest.raises(TrainingError, match="reads audio and video: it has no use for a backbone of text"):
        checkpoint_choices(tmp_path, recipe, {"text": public.text()})
