"""BERT: a slot is the mean of its tokens in context, with [CLS] and [SEP] around them and dropped."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tessera.errors import InputError, TrainingError
from tests.training.backbones.parity import require_parity
from tests.training.backbones.random_weights import BERT_PIECES, write_bert
from training.backbones.bert import Bert, bert_tokenizer, fetch_bert
from training.backbones.text_choice import TextChoice
from training.backbones.words import CaptionWords

ID = {piece: index for index, piece in enumerate(BERT_PIECES)}


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> Bert:
    return Bert.load(bert_folder).eval()


@pytest.fixture(scope="module")
def plain(bert_folder: Path) -> Any:
    """The library's own model of the same folder."""
    return transformers.BertModel.from_pretrained(bert_folder, attn_implementation="eager").eval()


def vectors(bert: Bert, cutter: CaptionWords, caption: str) -> torch.Tensor:
    """Of the words of a caption, [words, 24]."""
    inputs = {name: torch.from_numpy(array)[None] for name, array in cutter.cut(caption).items()}
    with torch.no_grad():
        found: torch.Tensor = bert(**inputs)[0]
    return found


def hidden(plain: Any, pieces: list[str]) -> torch.Tensor:
    """The last hidden layer of [CLS], pieces, [SEP] by the library, without the two, [pieces, 24]."""
    ids = torch.tensor([[ID["[CLS]"], *(ID[piece] for piece in pieces), ID["[SEP]"]]])
    with torch.no_grad():
        found: torch.Tensor = plain(input_ids=ids).last_hidden_state[0, 1:-1]
    return found


def test_every_word_is_a_slot(bert: Bert, plain: Any, bert_folder: Path) -> None:
    cutter = CaptionWords(bert_tokenizer(bert_folder))
    found = vectors(bert, cutter, "A dog barks loudly, at NIGHT!")
    layer = hidden(plain, ["a", "dog", "bark", "##s", "loud", "##ly", ",", "at", "night", "!"])
    expected = [layer[0], layer[1], layer[2:4].mean(0), layer[4:6].mean(0), layer[7], layer[8]]
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_listed_words_alone_are_slots_and_the_rest_is_context(
    bert: Bert, plain: Any, bert_folder: Path
) -> None:
    listed = {ID[piece] for piece in ("a", "dog", "bark", "loud", "night", "!")}
    cutter = CaptionWords(bert_tokenizer(bert_folder), listed)
    found = vectors(bert, cutter, "a dog barks at night!")
    layer = hidden(plain, ["a", "dog", "bark", "##s", "at", "night", "!"])
    # "barks" is two tokens, so no entry of the vocabulary; "at" is not in the list; "!" is.
    assert torch.allclose(found, layer[[0, 1, 5, 6]], atol=1e-5)


def test_at_most_ten_words_of_the_first_23_tokens(bert_folder: Path) -> None:
    tokenizer_json = bert_tokenizer(bert_folder)
    cut = CaptionWords(tokenizer_json, {ID["dog"]}).cut("dog " * 30)
    assert cut["input_ids"].tolist() == [ID["dog"]] * 23
    assert np.array_equal(cut["slots"], np.eye(10, 23, dtype=np.float32))
    cut = CaptionWords(tokenizer_json).cut("dog barks " * 15)
    assert cut["slots"].shape == (10, 15)


def test_a_caption_without_a_word_of_the_list_is_refused(bert_folder: Path) -> None:
    with pytest.raises(InputError, match="no word of the text is in the list of words"):
        CaptionWords(bert_tokenizer(bert_folder), {ID["rain"]}).cut("a dog barks")


def test_a_window_of_too_many_tokens_is_cut(bert: Bert, plain: Any) -> None:
    ids = torch.randint(5, len(BERT_PIECES), (1, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = bert(input_ids=ids, slots=torch.eye(60)[None])[0]
    expected = hidden(plain, [BERT_PIECES[i] for i in ids[0, :38]])
    assert torch.allclose(found[:38], expected, atol=1e-5)
    assert found[38:].abs().max().item() == 0


def test_the_graph_is_the_module(bert: Bert) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = (
        {
            "input_ids": torch.randint(0, len(BERT_PIECES), (batch, tokens), generator=generator),
            "slots": torch.rand(batch, time, tokens, generator=generator),
        }
        for batch, time, tokens in ((1, 1, 1), (3, 4, 9), (2, 10, 38), (1, 2, 50))
    )
    require_parity(bert, batches)


def test_a_model_with_heads_gives_the_same_vectors(bert_folder: Path, tmp_path: Path) -> None:
    """The public checkpoint is one for pre-training: its tensors have a prefix, and there are others."""
    folder = write_bert(tmp_path / "heads", kind="BertForPreTraining")
    names = load_file(folder / "model.safetensors").keys()
    assert any(name.startswith("cls.") for name in names)
    assert Bert.load(folder).spec.feature_dim == 24


def test_the_tokeniser_is_that_of_the_folder(bert_folder: Path) -> None:
    own = transformers.AutoTokenizer.from_pretrained(bert_folder)
    caption = "Loudly, the old DOG barks!"
    cut = CaptionWords(bert_tokenizer(bert_folder)).cut(caption)
    assert cut["input_ids"].tolist() == own(caption, add_special_tokens=False)["input_ids"]


def test_the_list_is_json_or_the_papers_own(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("[0, 7, 8]")
    (tmp_path / "cnt.pkl").write_bytes(pickle.dumps({0: 0, 7: 1, 8: 2}))
    for name in ("words.json", "cnt.pkl"):
        assert TextChoice.parse(f"bert:{bert_folder},words={tmp_path / name}").listed() == {7, 8}
    assert TextChoice.parse(f"bert:{bert_folder}").listed() is None


@pytest.mark.parametrize("content", ["{}", "[]", '["dog"]', "nothing"])
def test_another_list_is_refused(bert_folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(TrainingError, match="expected a file with a JSON list of token ids"):
        TextChoice.parse(f"bert:{bert_folder},words={tmp_path / 'words.json'}").listed()


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _of_another_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))


def _lacking_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))


def _without_special_tokens(folder: Path) -> None:
    (folder / "vocab.txt").write_text("")


DAMAGES = {
    "has no model.safetensors; weights of other formats are not read": _without("model.safetensors"),
    "has no config.json of a model that transformers knows": _without("config.json"),
    "has no tokeniser of a BERT: expected tokenizer.json or vocab.txt": _without("vocab.txt"),
    "is a model of type 'roberta', expected 'bert'": _of_another_type,
    "is no BERT: it lacks 'encoder.layer.1.output.dense.weight'": _lacking_a_tensor,
    "is damaged, or not of its config.json": _of_another_width,
}


@pytest.mark.parametrize("sentence", DAMAGES)
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, sentence: str) -> None:
    folder = write_bert(tmp_path / "bert")
    DAMAGES[sentence](folder)
    with pytest.raises(TrainingError) as raised:
        Bert.load(folder)
    assert sentence in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"is damaged, or not of its config\.json"):
        Bert.load(folder)


def test_a_name_that_no_hub_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"there is no folder 'no/such/folder'"):
        fetch_bert("no/such/folder")


def test_a_name_that_cannot_be_fetched_is_refused(tmp_path: Path) -> None:
    """In a process of its own, because the library decides at its import whether it is offline."""
    program = (
        "from tessera.errors import TrainingError\nfrom training.backbones.bert import fetch_bert\n"
        "try: fetch_bert('someone/bert-that-is-not-there')\nexcept TrainingError as error: print(error)"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(
        "'someone/bert-that-is-not-there' is no folder, and no model of that name could be fetched from the hub"
    ), done.stderr
    assert done.stderr == ""


def test_only_a_bert_imports_transformers() -> None:
    program = (
        "import sys\nfrom training.backbones.catalogue import audio_backbone\naudio_backbone()\n"
        "import training.data.clip_pool\nassert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": "."})
