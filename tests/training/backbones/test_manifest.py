"""Manifests of raw clips: what the columns mean, and a clear word on each row that is not as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessera.errors import TrainingError
from training.data.manifest import ClipManifest, ClipRow, read_manifest


def read(folder: Path, text: str | bytes, name: str = "clips.csv") -> ClipManifest:
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(data)
    return read_manifest(folder / name)


def test_one_file_has_both_modalities(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,label,split,colour\na.mp4,dog,train,red\nsub/b.mp4,,test,\n")
    a, b = tmp_path / "a.mp4", tmp_path / "sub/b.mp4"
    assert manifest.rows == (
        ClipRow("a", a, a, label="dog", split="train"),
        ClipRow("b", b, b, split="test"),
    )
    assert manifest.modalities == ("audio", "video")
    assert (manifest.classes, manifest.task, manifest.unused) == (("dog",), "classification", ("colour",))


def test_columns_of_their_own_come_before_path(tmp_path: Path) -> None:
    manifest = read(tmp_path, "id,path,audio\n7,a.mp4,a.wav\n8,b.mp4,\n")
    assert [(row.id, row.audio, row.video) for row in manifest.rows] == [
        ("7", tmp_path / "a.wav", tmp_path / "a.mp4"),
        ("8", tmp_path / "b.mp4", tmp_path / "b.mp4"),
    ]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert read(tmp_path, "audio\n/data/a.wav\n").rows[0].audio == Path("/data/a.wav")


def test_json_lines_may_have_several_captions(tmp_path: Path) -> None:
    rows = [
        {"id": 3, "audio": "a.wav", "caption": ["a dog", "it barks"]},
        {"audio": "b.wav", "caption": "rain"},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows)
    manifest = read(tmp_path, text, "clips.jsonl")
    assert [row.captions for row in manifest.rows] == [("a dog", "it barks"), ("rain",)]
    assert [row.id for row in manifest.rows] == ["3", "b"]
    assert (manifest.modalities, manifest.task) == (("audio", "text"), "retrieval")


def test_texts_alone_are_named_by_their_line(tmp_path: Path) -> None:
    manifest = read(tmp_path, '\ufeffcaption\n"rain,\non a roof"\ndog\n')
    assert [(row.id, row.captions) for row in manifest.rows] == [
        ("3", ("rain,\non a roof",)),
        ("4", ("dog",)),
    ]
    assert manifest.modalities == ("text",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no clips"),
        ("path\n", "names no clips"),
        ("name,label\na,b\n", "has no column path, audio, video or caption"),
        ("path,path\na,b\n", "clips.csv: the header names a column twice"),
        ("path,label\na.mp4\n", "clips.csv, line 2: 1 fields, the header has 2"),
        ("path,label\na.mp4,x,y\n", "clips.csv, line 2: 3 fields, the header has 2"),
        ('path\n"a.mp4\n', "clips.csv, line 2: not CSV"),
        ("id,path\n1,a.mp4\n2,\n", "clips.csv, line 3: no file for audio, which other clips have"),
        ("path,caption\na.mp4,rain\nb.mp4,\n", "clips.csv, line 3: no caption, which other clips have"),
        ("path,caption\na.mp4,   \n", "clips.csv, line 2: 'caption' is neither a text nor a list of texts"),
        ("path,split\na.mp4,../x\n", "clips.csv, line 2: split '../x' is not made of letters and digits"),
        (
            "path\nx/a.mp4\ny/a.mp4\n",
            "line 3: clip 'a' is also in clips.csv, line 2; give each clip an id of its own",
        ),
        ("path\na\0.mp4\n", "clips.csv, line 2: 'path' is no text"),
        (b"path\n\xff.mp4\n", "is not UTF-8 text"),
    ],
)
def test_a_bad_table_is_told_where(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        read(tmp_path, text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"path": "a.mp4"}\n{"path"', "clips.jsonl, line 2: not JSON"),
        ('["a.mp4"]', "clips.jsonl, line 1: expected a JSON object"),
        ('{"path": ["a.mp4"]}', "clips.jsonl, line 1: 'path' is no text"),
        ('{"path": "a", "label": true}', "clips.jsonl, line 1: 'label' is no text"),
        ('{"caption": [1]}', "clips.jsonl, line 1: 'caption' is neither a text nor a list of texts"),
        ('{"caption": ["a", ""]}', "clips.jsonl, line 1: 'caption' is neither a text nor a list of texts"),
    ],
)
def test_a_bad_line_is_told_where(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(TrainingError) as raised:
        read(tmp_path, text, "clips.jsonl")
    assert sentence in str(raised.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is to be a \.csv or a \.jsonl file"):
        read(tmp_path, "path\na.mp4\n", "clips.txt")
    with pytest.raises(TrainingError, match=r"the manifest '.*none\.csv' cannot be read"):
        read_manifest(tmp_path / "none.csv")
