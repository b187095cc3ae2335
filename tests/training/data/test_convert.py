"""Every released dataset, from archives as they were released to a store that gives back the same numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.data.archive_files import Released, write_csv, write_zip
from tests.training.data.commands import tessera
from tests.training.data.released_files import DATASETS
from training.backbones.catalogue import text_backbone
from training.backbones.words import CaptionWords
from training.data.archives.catalogue import FORMATS
from training.data.features import FeatureSet
from training.data.store import FeatureStore


def fitted(rows: NDArray[Any] | None, seconds: int) -> NDArray[np.float32]:
    """Second by second."""
    assert rows is not None
    return np.stack([rows[second] if second < len(rows) else rows[-1] for second in range(seconds)]).astype(
        "f4"
    )


def spoken(store: FeatureStore, sentence: str) -> NDArray[np.float32]:
    """The word vectors of a sentence, by the tokeniser in the store."""
    tokenizer_json = store.tokenizer_json
    assert tokenizer_json is not None
    inputs = CaptionWords(tokenizer_json).cut(sentence)
    vectors: NDArray[np.float32] = text_backbone(tokenizer_json)(
        **{name: torch.from_numpy(array)[None] for name, array in inputs.items()}
    )[0].numpy()
    return vectors


def require_equal(clips: FeatureSet, released: Released) -> None:
    assert clips.ids is not None
    assert set(clips.ids) == set(released.clips)
    for row, name in enumerate(clips.ids):
        expected = released.clips[name]
        assert clips.labels[row] == expected.label
        for modality in ("audio", "video"):
            stored = getattr(clips, modality)
            assert (stored is None) == (getattr(expected, modality) is None)
            if stored is not None:
                np.testing.assert_array_equal(
                    stored[row], fitted(getattr(expected, modality), released.seconds)
                )
        assert (clips.segments is None) == (expected.target is None)
        if clips.segments is not None and expected.target is not None:
            np.testing.assert_array_equal(clips.segments[row], expected.target)


def require_captions(store: FeatureStore, released: Released) -> None:
    texts = [text for name in store.ids for text in released.clips[name].texts]
    items = [row for row, name in enumerate(store.ids) for _ in released.clips[name].texts]
    if not texts:
        assert "text" not in store.arrays
        return
    text, words, item = store.captions()
    assert item.tolist() == items
    for sentence, vectors, count in zip(texts, text, words, strict=True):
        expected = spoken(store, sentence)
        assert count == len(expected)
        np.testing.assert_allclose(vectors[:count], expected, rtol=1e-6)
        assert not vectors[count:].any()


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_becomes_a_store_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    released, target = DATASETS[name](tmp_path / "data"), tmp_path / "stores" / name
    converted = tessera("data", "convert", name, released.root, "--out", target, "--workers", 2)
    assert (converted.status, converted.out) == (0, f"{target}\n"), converted.err
    store = FeatureStore.load(target)
    assert (store.name, store.classes) == (name, released.classes)
    require_equal(store.split(), released)
    require_captions(store, released)
    for split in store.splits:
        clips = store.split(split)
        assert clips.ids is not None
        assert set(clips.ids) == {name for name, clip in released.clips.items() if split in clip.splits}
    assert set(store.splits) == {split for clip in released.clips.values() for split in clip.splits}
    verified = tessera("data", "verify", target, "--partial", "--against", released.root)
    assert verified.status == 0, verified.out
    assert "WRONG" not in verified.out
    assert name in tessera("data", "info", target).out
    assert [path.name for path in target.parent.iterdir()] == [name]


def test_the_catalogue_and_its_help_have_every_dataset() -> None:
    assert set(FORMATS) == set(DATASETS)
    shown = " ".join(tessera("data", "convert", "--help").out.split())
    for format in FORMATS.values():
        assert f"{format.name} - " in shown
        for part in format.parts:
            assert part.patterns[0] in shown


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """The 40 thousand, with one sentence of 141 used by two clips."""
    return DATASETS["vggsound-avel40k"](tmp_path_factory.mktemp("small"))


def test_splits_are_mapped_whole(small: Released, tmp_path: Path) -> None:
    assert tessera("data", "convert", "vggsound-avel40k", small.root, "-o", tmp_path / "s").status == 0
    store = FeatureStore.load(tmp_path / "s")
    assert store.ids == ("aaa", "bbb", "ddd", "-cc")
    train = store.split("train")
    assert isinstance(train.video, np.memmap)
    assert isinstance(train.text, np.memmap)
    assert store.manifest.notes == {
        "audio repeated at the end": "1 clips",
        "audio cut at the end": "1 clips",
    }
    assert set(store.manifest.sources) == {
        "vggsound-avel40k.csv",
        "VggsoundAVEL40kCategories.txt",
        "vggsoundCategories2Prompts.csv",
        "audio",
        "video",
        "labels",
    }


def test_two_conversions_are_equal_bit_by_bit(small: Released, tmp_path: Path) -> None:
    for out, workers in (("one", 1), ("four", 4)):
        done = tessera(
            "data", "convert", "vggsound-avel40k", small.root, "-o", tmp_path / out, "--workers", workers
        )
        assert done.status == 0
    contents = [
        {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*.*")}
        for out in ("one", "four")
    ]
    assert contents[0] == contents[1]


def test_a_module_is_run_as_users_run_it(small: Released, tmp_path: Path) -> None:
    command = ["data", "convert", "vggsound-avel40k", small.root, "-o", tmp_path / "s", "--text", "none"]
    done = subprocess.run([sys.executable, "-m", "tessera", *command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 's'}\n"), done.stderr
    assert FeatureStore.load(tmp_path / "s").split().modalities == ("audio", "video")


def test_half_precision_is_half_the_disk_and_verified_alike(small: Released, tmp_path: Path) -> None:
    options = ["-o", tmp_path / "s", "--video-dtype", "float16"]
    assert tessera("data", "convert", "vggsound-avel40k", small.root, *options).status == 0
    video = FeatureStore.load(tmp_path / "s").split().video
    assert video is not None
    assert video.dtype == np.float16
    assert tessera("data", "verify", tmp_path / "s", "--partial", "--against", small.root).status == 0


def test_parts_that_could_be_several_files_are_asked_for(small: Released, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(small.root / "feature_extractor", root / "lists")
    for place in ("a", "b"):
        shutil.copytree(small.root / "vggsound40k", root / place)
    command = ["data", "convert", "vggsound-avel40k", root, "-o", tmp_path / "s"]
    refused = tessera(*command)
    assert refused.status == 2
    assert "audio could be any of" in refused.err
    chosen = [
        f"--file={part}={root}/a/feature/{part.removesuffix('s')}/zip"
        for part in ("audio", "video", "labels")
    ]
    assert tessera(*command, *chosen).status == 0
    assert len(FeatureStore.load(tmp_path / "s")) == 4
    assert tessera(*command, "--file=sound=x").err.startswith("tessera: the dataset has no part 'sound'")
    assert "--file audio: there is no folder" in tessera(*command, f"--file=audio={root}/none").err
    assert "--file is written PART=PATH" in tessera(*command, "--file=audio").err


def test_roots_and_names_that_are_none(small: Released, tmp_path: Path) -> None:
    out = ["-o", tmp_path / "s"]
    assert (
        "is no released dataset; choose one of vggsound-avel40k"
        in tessera("data", "convert", "x", ".", *out).err
    )
    missing = tessera("data", "convert", "ave", tmp_path / "none", *out)
    assert (missing.status, missing.err) == (2, f"tessera: '{tmp_path / 'none'}' is no folder\n")
    foreign = tessera("data", "convert", "ave", small.root, *out)
    assert "there is no file 'audio_feature.h5' under" in foreign.err
    assert "--file audio=PATH" in foreign.err


def test_links_in_a_circle_are_followed_once(small: Released, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for folder in small.root.iterdir():
        (tmp_path / "data" / folder.name).symlink_to(folder)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    done = tessera("data", "convert", "vggsound-avel40k", tmp_path / "data", "-o", tmp_path / "s")
    assert done.status == 0, done.err


def test_a_list_of_half_the_size_is_refused_loudly(tmp_path: Path) -> None:
    released = DATASETS["vggsound-avel40k"](tmp_path / "data")
    folder = tmp_path / "data" / "feature_extractor" / "feature_extractor"
    rows = [("rain", f"id{number}", "train") for number in range(20_400)]
    write_csv(folder / "vggsound-avel40k.csv", [("category", "video_id", "split"), *rows])
    done = tessera("data", "convert", "vggsound-avel40k", released.root, "-o", tmp_path / "s")
    assert done.status == 2
    assert "20,400 clips are about half of the 40,801" in done.err
    assert "11 points" in done.err
    assert not (tmp_path / "s").exists()
    partial = tessera("data", "convert", "vggsound-avel40k", released.root, "-o", tmp_path / "s", "--partial")
    assert "id0.zip' is missing" in partial.err


def test_a_size_that_is_not_the_known_one_is_said(small: Released, tmp_path: Path) -> None:
    done = tessera("data", "convert", "vggsound-avel40k", small.root, "-o", tmp_path / "s")
    assert "size: 4, the dataset has 40,801" in done.err
    assert "split val: 1, the dataset has 8,171" in done.err
    verified = tessera("data", "verify", tmp_path / "s")
    assert verified.status == 1
    assert "4, the dataset has 40,801" in verified.out


def test_the_archives_need_not_have_flags(tmp_path: Path) -> None:
    released = DATASETS["vggsound-avel40k"](tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "vggsound40k" / "feature" / "label")
    assert tessera("data", "convert", "vggsound-avel40k", released.root, "-o", tmp_path / "s").status == 0
    assert FeatureStore.load(tmp_path / "s").split().segments is None


def test_the_last_of_several_members_wins(tmp_path: Path) -> None:
    import pickle
    import zipfile

    released = DATASETS["vgg"](tmp_path / "data")
    folder = tmp_path / "data" / "vggsound40k" / "feature" / "audio" / "zip"
    path = write_zip(folder, "v_0", np.zeros((10, 128)))
    kept = np.ones((10, 128))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("second.pkl", pickle.dumps(kept))
        archive.writestr("notes.txt", "no array")
    assert tessera("data", "convert", "vgg", released.root, "-o", tmp_path / "s").status == 0
    audio = FeatureStore.load(tmp_path / "s").split().audio
    assert audio is not None
    np.testing.assert_array_equal(audio[0], kept)
