"""Sentences of a dataset through BERT, with every word or with those of the papers' list."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.training.data.archive_files import Released
from tests.training.data.commands import tessera
from tests.training.data.released_files import DATASETS
from training.backbones.bert import Bert
from training.data.store import FeatureStore

PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "cat",
    "eats",
    "man",
    "sings",
    "animal",
    "##s",
    "food",
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one of random weights, in the files of the hub."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return DATASETS["msvd"](tmp_path_factory.mktemp("films") / "data")


def test_every_word_fills_a_slot(bert: Path, films: Released, tmp_path: Path) -> None:
    done = tessera("data", "convert", "msvd", films.root, "-o", tmp_path / "s", "--text", f"bert:{bert}")
    assert done.status == 0, done.err
    store = FeatureStore.load(tmp_path / "s")
    text, words, item = store.captions()
    assert (words.tolist(), item.tolist()) == ([3, 4, 3], [0, 0, 1])
    ids = torch.tensor([[PIECES.index(word) for word in ("a", "cat", "eats")]])
    expected = Bert.load(bert)(input_ids=ids, slots=torch.eye(3)[None])[0].detach().numpy()
    np.testing.assert_allclose(text[0, :3], expected, rtol=1e-5)
    assert not text[0, 3:].any()
    digest = hashlib.sha256((bert / "model.safetensors").read_bytes()).hexdigest()
    assert store.manifest.features["text"] == f"bert-{digest[:8]}"
    assert store.manifest.sources["text: weights"] == digest
    assert store.tokenizer_json is not None


def test_words_of_the_papers_list_fill_slots(bert: Path, films: Released, tmp_path: Path) -> None:
    listed = [PIECES.index(word) for word in ("cat", "eats", "man", "food")]
    (tmp_path / "cnt.pkl").write_bytes(pickle.dumps({token: rank for rank, token in enumerate(listed)}))
    options = ["--text", f"bert:{bert},words={tmp_path / 'cnt.pkl'}"]
    done = tessera("data", "convert", "msvd", films.root, "-o", tmp_path / "s", *options)
    assert done.status == 0, done.err
    store = FeatureStore.load(tmp_path / "s")
    assert {"text: words", "text: weights", "msvd_test.csv", "video"} <= set(store.manifest.sources)
    assert store.manifest.features["text"].endswith(",words")
    text, words, _ = store.captions()
    assert words.tolist() == [2, 1, 1]
    ids = torch.tensor([[PIECES.index(word) for word in ("a", "cat", "eats")]])
    expected = Bert.load(bert)(input_ids=ids, slots=torch.eye(3)[None])[0].detach().numpy()
    np.testing.assert_allclose(text[0, :2], expected[1:], rtol=1e-5)


def test_a_bert_that_is_not_there_leaves_nothing(films: Released, tmp_path: Path) -> None:
    done = tessera("data", "convert", "msvd", films.root, "-o", tmp_path / "s", "--text=bert:./no folder")
    assert done.status == 2
    assert "there is no folder './no folder'" in done.err
    assert list(tmp_path.iterdir()) == []
