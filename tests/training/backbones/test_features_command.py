"""`tessera features`: raw clips to a feature store, through the real command and real processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.bundle import TimeGrid
from tessera.limits import Limits
from tessera.media import read_video
from tessera.windows import Modality
from tests.training.backbones.extractions import run, write_manifest
from training.backbones.bert import bert_tokenizer
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.manifest import read_manifest
from training.data.store import FeatureStore


def test_clips_of_all_lengths_become_a_store(media: Path, tmp_path: Path) -> None:
    rows = [
        ("a", media / "short.mp4", "a dog barks", "dog", "train"),
        ("b", media / "long.webm", "rain on a roof", "rain", "test"),
        ("c", media / "short.mp4", "nothing", "", "train"),
    ]
    out = tmp_path / "mine"
    said = run(write_manifest(tmp_path / "clips.csv", rows), "--out", out)
    assert "3 clips, 10 s each, 2 of them shorter and filled up" in said
    assert str(out) in said
    store = FeatureStore.load(out)
    assert (store.name, store.ids, store.classes, store.splits) == (
        "mine",
        ("a", "b", "c"),
        ("dog", "rain"),
        ("train", "test"),
    )
    assert store.manifest.features == {"audio": "classic", "video": "classic", "text": "classic"}
    whole = store.split()
    assert whole.labels.tolist() == [0, 1, -1]
    assert store.split("train").ids == ("a", "c")
    assert whole.words is not None
    assert whole.words.tolist() == [3, 4, 1]
    assert json.loads((out / "lengths.json").read_text())["a"] == {"audio": 3, "video": 3}
    settings = ReaderSettings(dict(store.manifest.features), (out / "tokenizer.json").read_text())
    expected = ClipReader(settings).read(read_manifest(tmp_path / "clips.csv").rows[0])
    for modality in ("audio", "video"):
        found = getattr(whole, modality)
        assert np.array_equal(found[0, :3], expected[modality])
        assert np.array_equal(found[0, 3:], np.repeat(found[0, 2:3], 7, axis=0))
        assert not np.array_equal(found[1, 8], found[1, 9])
    assert not list(tmp_path.glob(".mine*"))


def test_a_bad_clip_ends_it_or_is_left_out(media: Path, tmp_path: Path) -> None:
    rows = [
        ("speech", media / "speech.wav"),
        ("broken", media / "broken.mp4"),
        ("gone", media / "gone.wav"),
        ("film", media / "short.mp4"),
    ]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows, ("id", "path")), tmp_path / "store"
    said = run(manifest, "--out", out, "--video", "none", fails=True)
    assert said.startswith(f"clip 'broken': '{media / 'broken.mp4'}': ")
    assert said.endswith("(--skip-bad leaves out clips like this)")
    assert not out.exists()
    assert "another choice of backbones" in run(manifest, "--out", out, "--video", "classic", fails=True)
    said = run(manifest, "--out", out, "--video", "none", "--skip-bad", status=1)
    assert "left out: clip 'broken': " in said
    assert f"left out: clip 'gone': '{media / 'gone.wav'}': No such file or directory" in said
    assert "finished before" in said
    store = FeatureStore.load(out)
    assert store.ids == ("speech", "film")
    assert store.split().modalities == ("audio",)
    assert json.loads((out / "left_out.json").read_text()).keys() == {"broken", "gone"}
    assert store.manifest.notes["left out"] == "2 clips that cannot be read"
    assert "is there already" in run(manifest, "--out", out, "--video", "none", fails=True)


def test_several_captions_through_a_bert(bert_folder: Path, tmp_path: Path) -> None:
    captions = [["a dog barks", "the old dog barks loudly at night"], ["rain and wind"]]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"caption": c}) for c in captions))
    out = tmp_path / "store"
    run(tmp_path / "texts.jsonl", "--out", out, "--text", f"bert:{bert_folder}")
    store = FeatureStore.load(out)
    text, words, items = store.captions()
    assert (text.shape, words.tolist(), items.tolist()) == ((3, 10, 24), [3, 7, 3], [0, 0, 1])
    assert store.split().words is not None
    weights = store.manifest.sources["text: weights"]
    assert store.manifest.features == {"text": f"bert-{weights[:8]}"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--audio", "none", "--video", "none"], "no modality is left to extract features of"),
        (["--text", "classic"], "--text is given, but the manifest has no text"),
        (["--video", "vgg19:none.pth"], "there is no file of weights 'none.pth'"),
        (["--audio", "loud"], "there is no backbone 'loud' for audio"),
        pytest.param(
            ["--device", "cuda"],
            "a CUDA device was asked for, this machine has none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one"),
        ),
    ],
)
def test_a_wrong_wish_is_told_why(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    manifest = write_manifest(tmp_path / "clips.csv", [("a.mp4",)], ("path",))
    assert sentence in run(manifest, "--out", tmp_path / "store", *arguments, fails=True)
    assert not (tmp_path / "store").exists()


def test_deep_backbones_read_a_clip(media: Path, vgg19_file: Path, bert_folder: Path) -> None:
    """Second by second, the store has what the module says of all seconds at once."""
    choices: dict[Modality, str] = {"video": f"vgg19:{vgg19_file},frames=1", "text": f"bert:{bert_folder}"}
    reader = ClipReader(ReaderSettings(choices, bert_tokenizer(bert_folder)))
    row = read_manifest(_one_row(media)).rows[0]
    arrays = reader.read(row)
    assert arrays["video"].shape == (3, 7, 7, 512)
    assert arrays["text"].shape == (1, 10, 24)
    assert reader.video is not None
    spec = reader.video.spec
    with read_video(media / "short.mp4", spec, TimeGrid(), Limits()) as windows, torch.no_grad():
        expected = reader.video(frames=torch.from_numpy(next(windows).frames)[None])[0].numpy()
    assert np.allclose(arrays["video"], expected, rtol=2e-3, atol=1e-4 * expected.max())


def _one_row(media: Path) -> Path:
    return write_manifest(media / "one.csv", [(media / "short.mp4", "a dog")], ("path", "caption"))
