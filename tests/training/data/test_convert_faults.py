"""Archives that are not as they should be: the item is named, nothing is run, nothing half-written is left."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tessera.errors import TrainingError
from tests.training.data.commands import tessera
from tests.training.data.released_files import (
    DATASETS,
    audio_rows,
    write_csv,
    write_h5,
    write_lines,
    write_members,
    write_zip,
)
from training.data.archives.conversion import require_room
from training.data.archives.reading import Ready
from training.data.store import FeatureStore

LISTS = Path("feature_extractor") / "feature_extractor"
AUDIO = Path("vggsound40k") / "feature" / "audio" / "zip"
FLAGS = Path("vggsound40k") / "feature" / "label" / "zip"
AVE = Path("AVE-ECCV18-master") / "data"


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def replaced(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def nan_second(root: Path) -> None:
    rows = audio_rows()
    rows[7, 100] = np.nan
    write_zip(root / AUDIO, "bbb", rows)


def lying_size(root: Path) -> None:
    """The directory of the archive says 10 bytes where 16 megabytes come out."""
    path = write_members(root / AUDIO / "bbb.zip", {"bbb.pkl": bytes(1 << 24)})
    data = path.read_bytes()
    path.write_bytes(data.replace((1 << 24).to_bytes(4, "little"), (10).to_bytes(4, "little")))


def huge(root: Path) -> None:
    write_members(root / AUDIO / "bbb.zip", {"bbb.pkl": bytes((64 << 20) + 1)})


def changed_byte(root: Path) -> None:
    path = root / AUDIO / "bbb.zip"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


# Of one clip, `bbb` in line 3, each: what is done to the files, and what is said of it.
BAD_CLIPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda root: (root / AUDIO / "bbb.zip").unlink(), "bbb.zip' is missing"),
    "no zip": (
        lambda root: (root / AUDIO / "bbb.zip").write_bytes(b"<html>quota exceeded</html>"),
        "bbb.zip' is damaged, or no zip file",
    ),
    "cut off": (
        lambda root: (root / AUDIO / "bbb.zip").write_bytes((root / AUDIO / "bbb.zip").read_bytes()[:-50]),
        "bbb.zip' is damaged, or no zip file",
    ),
    "changed byte": (changed_byte, "bbb.zip' is damaged, or no zip file"),
    "too large": (huge, "bbb.zip' unpacks to more than 64 MiB"),
    "lies": (lying_size, "bbb.zip' is damaged, or no zip file"),
    "no member": (
        lambda root: write_members(root / AUDIO / "bbb.zip", {"readme.txt": b""}),
        "bbb.zip' holds no .pkl",
    ),
    "no pickle": (
        lambda root: write_members(root / AUDIO / "bbb.zip", {"bbb.pkl": b"\x93NUMPY"}),
        "bbb.zip': the pickle is damaged, or no pickle",
    ),
    "code": (
        lambda root: write_members(root / AUDIO / "bbb.zip", {"bbb.pkl": pickle.dumps(Payload())}),
        "system', which could run code: refused",
    ),
    "code beside an array": (
        lambda root: write_zip(root / AUDIO, "bbb", [audio_rows(), Payload()]),
        "system', which could run code: refused",
    ),
    "objects": (
        lambda root: write_zip(root / AUDIO, "bbb", np.array([None, {}])),
        "bbb.zip': the pickle is an array of objects",
    ),
    "NaN": (nan_second, "audio holds values that are no finite float32 numbers"),
    "shape": (lambda root: write_zip(root / AUDIO, "bbb", np.ones((10, 64))), "audio is [10, 64]"),
    "empty": (lambda root: write_zip(root / AUDIO, "bbb", np.ones((0, 128))), "it has no second at all"),
    "flags": (
        lambda root: write_zip(root / FLAGS, "bbb", np.ones((1, 9))),
        "it has 9 label flags, expected one for each of 10 seconds",
    ),
    "unknown class": (
        lambda root: replaced(root / LISTS / "vggsound-avel40k.csv", "dog barking,bbb", "dog,bbb"),
        "line 3: class 'dog' is not in VggsoundAVEL40kCategories.txt",
    ),
    "path": (
        lambda root: replaced(root / LISTS / "vggsound-avel40k.csv", ",bbb,", ",../../bbb,"),
        "'../../bbb' is no name of a file in",
    ),
    "no name": (
        lambda root: replaced(root / LISTS / "vggsound-avel40k.csv", ",bbb,", ",,"),
        "line 3: it has no name",
    ),
}


@pytest.mark.parametrize("case", BAD_CLIPS)
def test_a_bad_clip_ends_the_conversion_or_is_left_out(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    break_it, sentence = BAD_CLIPS[case]
    root = DATASETS["vggsound-avel40k"](tmp_path / "data").root
    break_it(root)
    command = ["data", "convert", "vggsound-avel40k", root, "-o", tmp_path / "stores" / "s", "--text", "none"]
    ended = tessera(*command)
    assert ended.status == 2
    assert sentence in ended.err
    assert "line 3" in ended.err
    assert ended.err.count("\n") == 1 + ended.err.count("clips ")
    assert not (tmp_path / "stores").exists() or not list((tmp_path / "stores").iterdir())

    left_out = tessera(*command, "--skip-bad")
    assert left_out.status == 1
    assert sentence in left_out.err
    store = FeatureStore.load(tmp_path / "stores" / "s")
    assert set(store.ids) == {"aaa", "ddd", "-cc"}
    with (store.folder / "skipped.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "line 3" in row["clip"]
    assert sentence in row["reason"] or sentence in f"{row['clip']}: {row['reason']}"
    assert store.manifest.notes["left out"] == "1 clips, see skipped.csv"
    assert tessera("data", "verify", store.folder, "--partial", "--against", root).status == 0
    assert not Path("pwned").exists()


def test_a_clip_that_is_listed_twice(tmp_path: Path) -> None:
    for name, file, old, new in (
        ("vggsound-avel40k", LISTS / "vggsound-avel40k.csv", ",ddd,", ",bbb,"),
        ("vggsound81k", Path("video_name_vggsound81k_checked.csv"), "k2", "k1"),
        ("avvp-audio", LISTS / "AVVP_eval_audio_checked_combined.csv", "hij2_5", "hij1_5"),
        ("ucf", LISTS / "ucf2vggsound.csv", "v_1", "v_0"),
        ("clotho", Path("clotho_captions_evaluation.csv"), "c d.wav", "b.wav"),
        ("flickrsound", Path("Data") / "test.csv", "v.22", "11"),
    ):
        root = DATASETS[name](tmp_path / name).root
        replaced(root / file, old, new)
        ended = tessera("data", "convert", name, root, "-o", tmp_path / "s")
        assert ended.status == 2
        assert "already" in ended.err
        assert f"{file.name} line" in ended.err


def avvp(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: replaced(root / LISTS / "AVVP_eval_audio_checked_combined.csv", old, new)


def order(split: str, rows: object) -> Callable[[Path], object]:
    return lambda root: write_h5(root / AVE / f"{split}_order.h5", "order", np.array(rows))


def other_key(root: Path) -> None:
    with h5py.File(root / AVE / "labels.h5", "r+") as file:
        file["labels"] = file.pop("avadataset")


def two_classes(root: Path) -> None:
    with h5py.File(root / AVE / "labels.h5", "r+") as file:
        file["avadataset"][3, 2, :2] = 1


# What is wrong with a list or with all: dataset, what is done to the files, what is said of it.
BAD_LISTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "tab in the classes": (
        "ucf",
        lambda root: replaced(root / LISTS / "UCF101sameVGGSound.txt", "UcfName2\n", "Bowling\tbowling\n"),
        r"UCF101sameVGGSound.txt line 3: 'Bowling\tbowling' holds a tab",
    ),
    "classes of other length": (
        "vgg",
        lambda root: write_lines(root / LISTS / "UCF101sameVGGSound.txt", [f"x{i}" for i in range(15)]),
        "UCF101sameVGGSound.txt has 15 lines, VGGSoundsameUCF101.txt 16; they belong together",
    ),
    "column": (
        "vggsound-avel40k",
        lambda root: replaced(root / LISTS / "vggsound-avel40k.csv", "video_id", "id"),
        "vggsound-avel40k.csv has no column 'video_id'; it has: category, id, split",
    ),
    "comma for tab": (
        "avvp-audio",
        lambda root: write_csv(
            root / LISTS / "AVVP_eval_audio_checked_combined.csv", [("filename", "onset"), ("a", "1")]
        ),
        "has no column 'filename'; it has: filename,onset",
    ),
    "prompt": (
        "vggsound-avel40k",
        lambda root: replaced(root / LISTS / "vggsoundCategories2Prompts.csv", "rain,", "snow,"),
        "vggsoundCategories2Prompts.csv has no sentence for class 'rain'",
    ),
    "onset after offset": (
        "avvp-audio",
        avvp("\t4\t4\t", "\t7\t4\t"),
        "AVVP_eval_audio_checked_combined.csv line 3: onset 7 lies after offset 4",
    ),
    "offset outside": ("avvp-audio", avvp("\t9\t10\t", "\t9\t12\t"), "line 4: seconds 9 to 12 lie outside"),
    "half a second": ("avvp-audio", avvp("\t4\t4\t", "\t3.5\t4\t"), "line 3: '3.5' is no whole second"),
    "no number": ("avvp-audio", avvp("\t4\t4\t", "\tnan\t4\t"), "line 3: 'nan' is no whole second"),
    "lists of other lengths": (
        "avvp-audio",
        avvp("0,2\t3,10", "0\t3,10"),
        "line 2: 1 onsets, 2 offsets and 2 classes",
    ),
    "class of an event": ("avvp-audio", avvp("\tAVVP 0", "\tAVVP 77"), "line 3: class 'AVVP 77' is not in"),
    "short file name": ("avvp-audio", avvp("abcdefghij1_0_10.mp4", "abc"), "line 3: 'abc' is shorter than"),
    "no mp4": (
        "vggsound81k",
        lambda root: replaced(root / "video_name_vggsound81k_checked.csv", "k2.mp4", "k2"),
        "video_name_vggsound81k_checked.csv line 3: 'k2' does not end in .mp4",
    ),
    "labels of the wrong length": (
        "ave",
        lambda root: write_h5(root / AVE / "labels.h5", "avadataset", np.zeros((5, 10, 29))),
        "labels.h5' has 5 rows for 6 clips",
    ),
    "labels of the wrong length for a part": (
        "ave-avvp",
        lambda root: write_h5(root / "AVE_AVVP" / "ave_avvp_labels.h5", "avadataset", np.zeros((4, 10, 13))),
        "ave_avvp_labels.h5' has 4 rows, expected one for each of the 3 clips of",
    ),
    "labels of other classes": (
        "ave-avvp",
        lambda root: write_h5(root / "AVE_AVVP" / "ave_avvp_labels.h5", "avadataset", np.zeros((5, 10, 12))),
        "'avadataset' is [5, 10, 12], expected [any, 10, 13]",
    ),
    "videos of the wrong length": (
        "ave",
        lambda root: write_h5(
            root / AVE / "visual_feature.h5", "avadataset", np.zeros((2, 10, 7, 7, 512), "f4")
        ),
        "visual_feature.h5' has 2 rows for 6 clips of audio",
    ),
    "key": ("ave", other_key, "labels.h5' has no dataset 'avadataset'; it has: labels"),
    "no h5": (
        "ave",
        lambda root: (root / AVE / "audio_feature.h5").write_bytes(b"not found"),
        "audio_feature.h5' is missing, damaged, or no h5 file",
    ),
    "order outside": (
        "ave",
        order("val", [2, 6]),
        "val_order.h5': entry 1 names row 6, there are 6 rows",
    ),
    "negative order": ("ave", order("test", [-1]), "test_order.h5': entry 0 names row -1"),
    "order of no integers": ("ave", order("test", [1.5]), "test_order.h5' holds no integers"),
    "row in two splits": ("ave", order("test", [4, 2]), "row 2, split test: it is in split val already"),
    "row named twice": (
        "ave-avvp",
        lambda root: write_h5(root / "AVE_AVVP" / "ave_avvp_order.h5", "order", np.array([4, 0, 4])),
        "row 4: 'ave_avvp_order.h5' names it twice",
    ),
    "two classes at once": ("ave", two_classes, "row 3, split train: its labels are not one class"),
    "no json": (
        "mscoco",
        lambda root: (root / "val_part_1.json").write_text("{"),
        "val_part_1.json line 1: this is no json",
    ),
    "no annotations": (
        "mscoco",
        lambda root: (root / "val_part_1.json").write_text("[]"),
        "val_part_1.json holds no list of entries",
    ),
    "no description": (
        "valor32k",
        lambda root: (root / "desc_test.json").write_text(json.dumps([{"video_id": "q1"}])),
        "desc_test.json entry 1 has no usable 'desc'",
    ),
    "no caption": (
        "msvd",
        lambda root: replaced(root / "msvd_test.csv", "an animal at food", ""),
        "'caption' is empty",
    ),
    "caption without words": (
        "msvd",
        lambda root: replaced(root / "msvd_test.csv", "an animal at food", "?!"),
        "of '?!' no word vectors can be made: the text holds no words",
    ),
    "no sounds nor films": (
        "valor32k",
        lambda root: [(root / m).rename(root / f"no {m}") for m in ("audio", "video")],
        "there are features of neither audio nor video",
    ),
    "prompt of a class": (
        "avsbench-s4",
        lambda root: replaced(root / "AVSBench_data" / "AVSBenchCategories2Prompts.csv", "dog,", "fox,"),
        "AVSBenchCategories2Prompts.csv has no sentence for class 'dog'",
    ),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_list_that_cannot_be_right_ends_the_conversion(case: str, tmp_path: Path) -> None:
    name, break_it, sentence = BAD_LISTS[case]
    root = DATASETS[name](tmp_path / "data").root
    break_it(root)
    ended = tessera("data", "convert", name, root, "-o", tmp_path / "stores" / "s")
    assert ended.status == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "stores").exists() or not list((tmp_path / "stores").iterdir())


def test_a_text_backbone_that_is_none(tmp_path: Path) -> None:
    root = DATASETS["msvd"](tmp_path / "data").root
    command = ["data", "convert", "msvd", root, "-o", tmp_path / "s"]
    assert "there is no backbone 'word2vec' for text" in tessera(*command, "--text=word2vec").err
    assert "has no option 'words'" in tessera(*command, "--text=classic,words=cnt.pkl").err
    assert not (tmp_path / "s").exists()


def test_a_disk_that_is_too_small_is_said_at_the_first_clip(tmp_path: Path) -> None:
    ready = Ready({"video": np.zeros((10, 7, 7, 512), np.float32)}, {})
    require_room(tmp_path / "s", ready, 1)
    with pytest.raises(TrainingError, match=r"s' needs 1003520000.0 GB, .* --video-dtype float16 halves"):
        require_room(tmp_path / "s", ready, 10**12)


def test_where_all_clips_are_bad_there_is_no_store(tmp_path: Path) -> None:
    root = DATASETS["vgg"](tmp_path / "data").root
    for path in (root / "vggsound40k").rglob("*.zip"):
        path.unlink()
    ended = tessera("data", "convert", "vgg", root, "-o", tmp_path / "s", "--skip-bad")
    assert ended.status == 2
    assert "none of 3 clips could be used" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_store_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    root = DATASETS["vgg"](tmp_path / "data").root
    command = ["data", "convert", "vgg", root, "-o", tmp_path / "s"]
    assert tessera(*command).status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.*")}
    assert "is there already" in tessera(*command).err
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.*")} == before


def test_a_killed_conversion_leaves_no_store_and_can_be_run_again(tmp_path: Path) -> None:
    root = DATASETS["vgg"](tmp_path / "data").root
    pipe = root / "vggsound40k" / "feature" / "audio" / "zip" / "v_2.zip"
    content = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)  # Reading it waits for ever.
    command = ["data", "convert", "vgg", str(root), "-o", str(tmp_path / "s"), "--workers", "1"]
    with subprocess.Popen([sys.executable, "-m", "tessera", *command], stderr=subprocess.DEVNULL) as child:
        while not (tmp_path / ".s.part" / "labels.npy").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "s").exists()
    pipe.unlink()
    pipe.write_bytes(content)
    assert tessera(*command).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "s"]


def test_members_behind_a_password_or_in_an_unknown_method_are_damaged(tmp_path: Path) -> None:
    root = DATASETS["vgg"](tmp_path / "data").root
    path = root / "vggsound40k" / "feature" / "audio" / "zip" / "v_1.zip"
    packed = path.read_bytes()
    start = packed.index(b"PK\x01\x02")
    for offset, value in ((8, 1), (10, 99)):  # the flag of encryption, and the method
        data = bytearray(packed)
        data[start + offset] = value
        path.write_bytes(data)
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["v_1.pkl"]
        assert "v_1.zip' is damaged" in tessera("data", "convert", "vgg", root, "-o", tmp_path / "s").err
