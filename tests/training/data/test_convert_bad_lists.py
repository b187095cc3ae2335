"""Lists and tables that cannot be right: the file and the line are named, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.training.data.archive_files import replaced, write_csv, write_h5, write_lines
from tests.training.data.commands import tessera
from tests.training.data.released_files import DATASETS

LISTS = Path("feature_extractor") / "feature_extractor"
AVE = Path("AVE-ECCV18-master") / "data"


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
