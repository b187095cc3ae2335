"""Feature stores: what was written is read, in part or whole, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from tests.training.data.known_store import AUDIO, IDS, ITEMS, RNG, TEXT, VIDEO, WORDS, write
from training.data.features import FeatureSet, take
from training.data.store import FeatureStore


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    assert (store.name, store.classes, store.ids, store.splits) == (
        "mine",
        ("dog", "cat"),
        IDS,
        ("train", "odd"),
    )
    whole = store.split()
    assert whole.modalities == ("audio", "video", "text")
    assert whole.audio is not None
    assert whole.video is not None
    assert whole.text is not None
    assert whole.words is not None
    np.testing.assert_array_equal(whole.audio, AUDIO)
    np.testing.assert_array_equal(whole.video, VIDEO)
    np.testing.assert_array_equal(whole.labels, [0, 1, 0, 1, -1])
    np.testing.assert_array_equal(whole.text, TEXT[[0, 2, 3, 4, 5]])
    np.testing.assert_array_equal(whole.words, WORDS[[0, 2, 3, 4, 5]])
    assert whole.video.dtype == np.float16
    assert store.manifest.sources == {"list.csv": "00"}
    assert store.manifest.notes == {"left out": "nothing"}
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_split_of_neighbours_is_mapped_and_any_other_is_in_its_own_order(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    train, odd = store.split("train"), store.split("odd")
    assert isinstance(train.audio, np.memmap)
    assert isinstance(train.video, np.memmap)
    assert odd.audio is not None
    assert odd.ids == ("d", "b")
    np.testing.assert_array_equal(odd.audio, AUDIO[[3, 1]])
    np.testing.assert_array_equal(odd.labels, [1, 1])
    text, words, item = store.captions("odd")
    np.testing.assert_array_equal(item, [1, 0])
    np.testing.assert_array_equal(text, TEXT[[2, 4]])
    np.testing.assert_array_equal(words, WORDS[[2, 4]])
    np.testing.assert_array_equal(store.captions()[2], ITEMS)
    with pytest.raises(TrainingError, match="has no split 'test'; it has: train, odd"):
        store.split("test")


def test_one_text_a_clip_is_mapped_too(tmp_path: Path) -> None:
    store = write(tmp_path / "store", items=None)
    assert isinstance(store.split("train").text, np.memmap)
    assert not (store.folder / "text_item.npy").exists()
    np.testing.assert_array_equal(store.captions()[2], range(5))


def test_a_batch_has_the_modalities_that_are_there(tmp_path: Path) -> None:
    clips = write(tmp_path / "store").split()
    batch = clips.batch(torch.tensor([4, 0]))
    assert list(batch) == ["audio", "video", "text", "text_mask"]
    assert all(batch[m].dtype == torch.float32 for m in clips.modalities)
    assert batch["text_mask"].tolist() == [[True, True, False, False], [True, False, False, False]]
    np.testing.assert_array_equal(batch["audio"].numpy(), AUDIO[[4, 0]])
    silent = FeatureSet(None, VIDEO, None, None, np.zeros(5, np.int64))
    assert list(silent.batch(torch.tensor([1]))) == ["video"]


def test_feature_sets_are_saved_with_what_they_have(tmp_path: Path) -> None:
    segments = RNG.random((5, 10, 3)) < 0.5
    FeatureSet(AUDIO, None, None, None, np.arange(5), segments, IDS).save(tmp_path / "one")
    loaded = FeatureSet.load(tmp_path / "one")
    assert loaded.modalities == ("audio",)
    assert loaded.ids == IDS
    assert loaded.segments is not None
    np.testing.assert_array_equal(loaded.segments, segments)
    (tmp_path / "one" / "audio.npy").write_bytes(b"cut off")
    with pytest.raises(TrainingError, match="holds no complete features"):
        FeatureSet.load(tmp_path / "one")
    with pytest.raises(TrainingError, match="holds no complete features"):
        FeatureSet.load(tmp_path / "two")


def test_rows_of_different_clips_are_no_feature_set() -> None:
    with pytest.raises(TrainingError, match="5 rows of audio do not fit 4 labels"):
        FeatureSet(AUDIO, None, None, None, np.arange(4))
    with pytest.raises(TrainingError, match="given together"):
        FeatureSet(None, None, TEXT, None, np.arange(7))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_taking_rows_is_indexing(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=12)), dtype=np.int64)
    array = np.arange(3 * count).reshape(count, 3)
    np.testing.assert_array_equal(take(array, rows), array[rows])


def test_a_damaged_store_names_its_part(tmp_path: Path) -> None:
    def damaged(part: str, content: bytes | None, sentence: str) -> None:
        path = store.folder / part
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(TrainingError, match=sentence):
            FeatureStore.load(store.folder)
        path.write_bytes(before)

    store = write(tmp_path / "store")
    manifest = json.loads((store.folder / "store.json").read_text())
    short = store.folder / "audio.npy"
    damaged("audio.npy", None, r"audio\.npy' is missing or damaged")
    damaged("audio.npy", short.read_bytes()[:-1], r"audio\.npy' is missing or damaged")
    damaged(
        "audio.npy",
        (store.folder / "video.npy").read_bytes(),
        r"audio\.npy' is \[5, 10, 2, 2, 3\] of float16",
    )
    damaged("store.json", None, "is no feature store: it has no store.json")
    damaged("store.json", b"{", "damaged, or of another version: the whole")
    damaged("store.json", json.dumps({**manifest, "count": 0}).encode(), "of another version: count")
    damaged(
        "store.json", json.dumps({**manifest, "count": 4}).encode(), "names 5 different clips, expected 4"
    )
    damaged("ids.json", b'["a", "a", "b", "c", "d"]', "names 4 different clips, expected 5")
    damaged("ids.json", b"[1, 2, 3, 4, 5]", r"ids\.json' is missing or damaged")
    damaged("splits/train.npy", None, r"train\.npy' is missing or damaged")
    np.save(tmp_path / "far.npy", np.array([5]))
    damaged("splits/odd.npy", (tmp_path / "far.npy").read_bytes(), r"odd\.npy' does not name rows 0 to 4")
    FeatureStore.load(store.folder)
