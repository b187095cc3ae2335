"""`tessera data verify` and `info`: what is wrong with a store is found, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.archive_files import Released, audio_rows, write_zip
from tests.training.data.commands import Done, tessera
from tests.training.data.released_files import DATASETS
from training.data.store import FeatureStore
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return DATASETS["vggsound-avel40k"](tmp_path / "data")


@pytest.fixture
def store(released: Released, tmp_path: Path) -> Path:
    assert tessera("data", "convert", "vggsound-avel40k", released.root, "-o", tmp_path / "s").status == 0
    return tmp_path / "s"


def change(path: Path, *place: int, value: float) -> None:
    array = np.load(path, mmap_mode="r+")
    array[place] = value
    array.flush()


def verified(store: Path, *options: object) -> Done:
    return tessera("data", "verify", store, "--partial", *options)


def row(done: Done, check: str) -> str:
    (line,) = (line for line in done.out.splitlines() if line.startswith(f"│ {check} "))
    return line


def test_a_good_store_is_good(store: Path) -> None:
    done = verified(store)
    assert (done.status, "WRONG" in done.out) == (0, False)
    assert "4 clips, each name once" in row(done, "names")
    assert "4 x 10 x 128 float32, as written" in row(done, "audio")
    assert "3 of 3 classes occur, in 4 clips" in row(done, "classes")
    assert "have a class" in row(done, "seconds")
    assert "4 texts of" in row(done, "slots")


def test_classes_of_events_are_counted_by_their_seconds(tmp_path: Path) -> None:
    """Of three clips one has two classes, one a third, and one an event that ends as it begins."""
    root = DATASETS["avvp-audio"](tmp_path / "data").root
    assert tessera("data", "convert", "avvp-audio", root, "-o", tmp_path / "s").status == 0
    assert "3 of 25 classes occur, in 2 clips" in row(verified(tmp_path / "s"), "classes")


def test_changed_numbers_are_found(store: Path) -> None:
    change(store / "audio.npy", 2, 3, 4, value=7)
    change(store / "video.npy", 1, 0, 0, 0, 0, value=np.inf)
    change(store / "labels.npy", 0, value=3)
    change(store / "segments.npy", 3, 0, slice(None), value=False)  # type: ignore[arg-type]
    change(store / "text.npy", 0, 9, 0, value=1)
    done = verified(store)
    assert done.status == 1
    assert "WRONG" in row(done, "audio")
    assert "the numbers are not those that were written" in row(done, "audio")
    assert "1 rows are no finite numbers" in row(done, "video")
    assert "1 labels are none of 3 classes" in row(done, "classes")
    assert "1 clips have seconds without a class" in row(done, "seconds")
    assert "vectors behind the last word" in row(done, "slots")


def test_a_count_of_words_that_no_text_has(store: Path) -> None:
    change(store / "words.npy", 1, value=0)
    assert "texts have 1 to 10 words" in row(verified(store), "slots")


def test_a_class_and_background_at_once(store: Path) -> None:
    change(store / "segments.npy", 1, 4, slice(None), value=True)  # type: ignore[arg-type]
    assert "1 clips have seconds without a class, or with too many" in row(verified(store), "seconds")


def test_a_truncated_store_is_named(store: Path) -> None:
    path = store / "video.npy"
    path.write_bytes(path.read_bytes()[:-1_000])
    done = verified(store)
    assert (done.status, done.err) == (
        2,
        f"tessera: '{path}' is missing or damaged; convert the dataset again\n",
    )
    assert "is no feature store" in tessera("data", "info", store.parent).err


def test_archives_that_changed_since_are_found(store: Path, released: Released) -> None:
    folder = released.root / "vggsound40k" / "feature" / "audio" / "zip"
    before = (folder / "ddd.zip").read_bytes()
    write_zip(folder, "ddd", audio_rows())
    done = verified(store, "--against", released.root)
    assert done.status == 1
    assert "audio of clip 'ddd' is another; 1 such clips" in row(done, "contents")
    (folder / "ddd.zip").unlink()
    assert "ddd.zip' is missing" in row(verified(store, "--against", released.root), "contents")
    (folder / "ddd.zip").write_bytes(before)
    assert "4 clips equal those of the dataset" in row(
        verified(store, "--against", released.root), "contents"
    )


@pytest.mark.parametrize(
    ("old", "new", "check", "sentence"),
    [
        ("rain,aaa", "dog barking,aaa", "list", "clip 'aaa' (vggsound-avel40k.csv line 2) has another class"),
        ("ddd,train", "ddd,test", "list", "clip 'ddd' (vggsound-avel40k.csv line 5) is in other splits"),
        ("rain,aaa,val\n", "", "list", "'aaa' and 0 more clips are not in the dataset"),
    ],
)
def test_lists_that_changed_since_are_found(
    old: str, new: str, check: str, sentence: str, store: Path, released: Released
) -> None:
    path = released.root / "feature_extractor" / "feature_extractor" / "vggsound-avel40k.csv"
    path.write_text(path.read_text().replace(old, new))
    done = verified(store, "--against", released.root)
    assert done.status == 1
    assert sentence in row(done, check)


def test_clips_that_are_new_in_the_dataset_are_missing(store: Path, released: Released) -> None:
    path = released.root / "feature_extractor" / "feature_extractor" / "vggsound-avel40k.csv"
    path.write_text(path.read_text() + "rain,eee,train\n")
    # As long as it cannot be read, a conversion would leave it out too.
    assert "1 that cannot be read are left out" in row(
        verified(store, "--against", released.root), "contents"
    )
    for kind in ("audio", "video", "label"):
        folder = released.root / "vggsound40k" / "feature" / kind / "zip"
        (folder / "eee.zip").write_bytes((folder / "aaa.zip").read_bytes())
    done = verified(store, "--against", released.root)
    assert "clip 'eee' (vggsound-avel40k.csv line 6) is missing" in row(done, "contents")


def half_store(target: Path, clips: int) -> None:
    facts = StoreFacts(name="vggsound-avel40k", task="pretraining", classes=tuple(map(str, range(141))))
    with StoreWriter(target, facts) as writer:
        writer.append([str(i) for i in range(clips)], [0] * clips)


def test_the_size_of_the_first_release_is_said(tmp_path: Path) -> None:
    half_store(tmp_path / "half", 20_400)
    done = tessera("data", "verify", tmp_path / "half")
    assert done.status == 1
    assert "20,400 clips are about half of the 40,801 of vggsound-avel40k" in row(done, "size")
    assert "11 points" in row(done, "size")
    half_store(tmp_path / "whole", 40_801)
    assert "40,801, as released" in row(tessera("data", "verify", tmp_path / "whole"), "size")
    half_store(tmp_path / "more", 40_802)
    assert tessera("data", "verify", tmp_path / "more", "--partial").status == 1


def test_a_store_of_ones_own_has_no_known_size(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "mine", StoreFacts(name="mine")) as writer:
        writer.append(["a"], audio=np.ones((1, 10, 128), np.float32))
    done = tessera("data", "verify", tmp_path / "mine")
    assert done.status == 0
    assert "size" not in done.out
    assert "there are none" in row(done, "classes")
    assert (
        "'mine' is no released dataset" in tessera("data", "verify", tmp_path / "mine", "--against", ".").err
    )


def test_a_short_table_says_what_is_in_a_store(store: Path) -> None:
    done = tessera("data", "info", store)
    assert done.status == 0
    for said in (
        "vggsound-avel40k (pretraining)",
        "split train",
        "4 x 10 x 7 x 7 x 512 float32, 4.0 MB",
        "VGGish, as released",
        "classic",
        "audio repeated at the end",
    ):
        assert said in done.out


def test_the_manifest_is_readable_by_others(store: Path) -> None:
    manifest = json.loads((store / "store.json").read_text())
    assert manifest["name"] == "vggsound-avel40k"
    assert manifest["count"] == len(FeatureStore.load(store)) == 4
    assert len(manifest["sources"]["audio"]) == 64
