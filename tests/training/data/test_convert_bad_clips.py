"""Clips that cannot be used: each is named, nothing is run, nothing half-written is left."""

from __future__ import annotations

import csv
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.data.archive_files import audio_rows, replaced, write_members, write_zip
from tests.training.data.commands import tessera
from tests.training.data.released_files import DATASETS
from training.data.store import FeatureStore

LISTS = Path("feature_extractor") / "feature_extractor"
AUDIO = Path("vggsound40k") / "feature" / "audio" / "zip"
FLAGS = Path("vggsound40k") / "feature" / "label" / "zip"


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


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
