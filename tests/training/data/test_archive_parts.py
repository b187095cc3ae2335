"""The rules of the released formats one by one: padding, targets, tables, h5 files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from tests.training.data.archive_files import write_h5, write_lines
from training.data.archives.dataset import Clip
from training.data.archives.faults import BadClip, Faults
from training.data.archives.fitting import fit_seconds, usable
from training.data.archives.h5 import H5Array
from training.data.archives.tables import entries, read_classes, read_json, read_prompts, read_table
from training.data.archives.targets import clip_label, from_events, from_flags
from training.data.archives.texts import embedded


@given(found=st.integers(1, 25), wanted=st.integers(1, 12))
def test_the_last_second_is_repeated_and_what_is_too_much_is_cut(found: int, wanted: int) -> None:
    rows = np.arange(found * 3).reshape(found, 3)
    fitted = fit_seconds(rows, wanted)
    assert len(fitted) == wanted
    for second in range(wanted):
        assert fitted[second].tolist() == rows[second if second < found else found - 1].tolist()


def test_features_that_no_store_can_hold() -> None:
    assert usable("video", np.ones((7, 7, 512)), 3, np.float16).shape == (3, 7, 7, 512)
    with pytest.raises(BadClip, match="no second at all"):
        usable("audio", np.ones((0, 128)), 10, np.float32)
    with pytest.raises(BadClip, match=r"audio is \[10, 127\], expected \[seconds, 128\]"):
        usable("audio", np.ones((10, 127)), 10, np.float32)
    with pytest.raises(BadClip, match=r"video is \[1, 10, 7, 7, 512\]"):
        usable("video", np.ones((1, 10, 7, 7, 512)), 10, np.float32)
    with pytest.raises(BadClip, match="no finite float16 numbers"):
        usable("audio", np.full((10, 128), 70_000.0), 10, np.float16)
    # A broken number in what is cut away does no harm.
    late = np.ones((12, 128))
    late[11] = np.inf
    assert np.isfinite(usable("audio", late, 10, np.float32)).all()


EVENTS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 4)).map(
        lambda event: (min(event[:2]), max(event[:2]), event[2])
    ),
    max_size=6,
)


@given(EVENTS)
def test_targets_of_events_are_those_of_a_slow_loop(events: list[tuple[int, int, int]]) -> None:
    target = from_events(events, 5)
    assert target.shape == (10, 6)
    for second in range(10):
        happening = {label for onset, offset, label in events if onset <= second < offset}
        assert set(np.flatnonzero(target[second]).tolist()) == (happening or {5})


def test_events_that_cannot_be() -> None:
    with pytest.raises(BadClip, match="onset 5 lies after offset 3"):
        from_events([(5, 3, 0)], 2)
    with pytest.raises(BadClip, match="seconds 8 to 11 lie outside a clip of 10"):
        from_events([(8, 11, 0)], 2)
    with pytest.raises(BadClip, match="outside"):
        from_events([(-1, 3, 0)], 2)


@given(st.lists(st.integers(0, 1), min_size=10, max_size=10), st.integers(0, 3))
def test_targets_of_flags(flags: list[int], label: int) -> None:
    target = from_flags(np.array([flags]), label, 4)
    assert [row.argmax() for row in target] == [label if flag else 4 for flag in flags]
    assert (target.sum(axis=1) == 1).all()
    assert clip_label(target) == (label if any(flags) else -1)


@given(st.lists(st.integers(0, 4), min_size=10, max_size=10))
def test_the_label_of_a_clip_is_that_of_the_released_rule(classes: list[int]) -> None:
    """The highest, over time, of the first set column of each second, background left out."""
    target = np.eye(5, dtype=np.bool_)[classes]
    if (target[:, :-1].any(axis=1)).any():
        assert clip_label(target) == target[:, :-1].argmax(axis=1).max()


def test_flags_of_the_wrong_number() -> None:
    with pytest.raises(BadClip, match="9 label flags, expected one for each of 10 seconds"):
        from_flags(np.ones(9), 0, 2)
    with pytest.raises(BadClip, match="not all 0 or 1"):
        from_flags(np.full(10, 2), 0, 2)


def table(folder: Path, content: str) -> Path:
    path = folder / "list.csv"
    path.write_text(content)
    return path


def test_a_table_is_read_by_column_with_lines(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, '\ufeffid, say\na,"one\ntwo"\n\nb ,"x, y"\n'), ["id"])
    assert [(row["id"], row["say"]) for row in rows] == [("a", "one\ntwo"), ("b", "x, y")]
    assert [row.where for row in rows] == ["list.csv line 3", "list.csv line 5"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "list.csv has no column 'id'; it has: none"),
        ("name\nx\n", "list.csv has no column 'id'; it has: name"),
        ("id,x\n", "list.csv lists nothing"),
        ("id,x\na,b\nc\n", "list.csv line 3: 1 cells, the header has 2"),
        ('id,x\na,"b\n', "list.csv line 2: quotes that do not fit"),
    ],
)
def test_tables_that_are_malformed(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=sentence):
        read_table(table(tmp_path, content), ["id"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"id\n\xff\xfe")
    with pytest.raises(TrainingError, match="is no text in UTF-8"):
        read_table(tmp_path / "list.csv")
    with pytest.raises(TrainingError, match="cannot be read: No such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{\n"a": }')
    with pytest.raises(TrainingError, match=r"x\.json line 2: this is no json"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["Archery", "Bowling\tbowling"], r"c\.txt line 2: 'Bowling\\tbowling' holds a tab"),
        (["Archery", "", "Bowling"], r"c\.txt line 2 is empty"),
        (["Archery", "Bowling", "Archery "], r"c\.txt line 3: 'Archery' stands in line 1 already"),
        ([], r"c\.txt names no classes"),
    ],
)
def test_class_files_that_are_malformed(lines: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=sentence):
        read_classes(write_lines(tmp_path / "c.txt", lines))


def test_classes_are_numbered_by_line(tmp_path: Path) -> None:
    classes = read_classes(write_lines(tmp_path / "c.txt", ["b, c ", "a", ""]))
    assert classes.names == ("b, c", "a")
    assert classes.number("a") == 1
    with pytest.raises(BadClip, match=r"class 'x' is not in c\.txt"):
        classes.number("x")


def test_each_class_has_one_sentence(tmp_path: Path) -> None:
    good = table(tmp_path, "label,prompt\na,An a\nb,A b\n")
    assert read_prompts(good, ["b"]) == {"a": "An a", "b": "A b"}
    with pytest.raises(TrainingError, match="no sentence for class 'c' and 1 more"):
        read_prompts(good, ["a", "c", "d"])
    with pytest.raises(TrainingError, match="line 3: class 'a' has a sentence already"):
        read_prompts(table(tmp_path, "label,prompt\na,x\na,y\n"), ["a"])
    with pytest.raises(TrainingError, match="line 2: class 'a' has no sentence"):
        read_prompts(table(tmp_path, "label,prompt\na,\n"), ["a"])


def test_entries_of_json(tmp_path: Path) -> None:
    path = Path("x.json")
    assert entries([{"id": 7, "say": " a "}], path, {"id": int, "say": str})[0].cells == ("7", "a")
    for values in ({}, [], None, "x"):
        with pytest.raises(TrainingError, match=r"x\.json holds no list"):
            entries(values, path, {})
    for value in ({}, {"id": None}, {"id": 5}, {"id": ""}, "id", {"id": True}):
        with pytest.raises(TrainingError, match=r"x\.json entry 1 has no usable 'id'"):
            entries([value], path, {"id": str})


def test_h5_files(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "x.h5", "rows", np.arange(6.0).reshape(3, 2))
    assert H5Array.open(path, "rows", (None,)).row(2).tolist() == [4, 5]
    with pytest.raises(TrainingError, match="has no dataset 'other'; it has: rows"):
        H5Array.open(path, "other", (2,))
    with pytest.raises(TrainingError, match=r"'rows' is \[3, 2\], expected \[any, 4\]"):
        H5Array.open(path, "rows", (4,))
    with pytest.raises(TrainingError, match=r"expected \[any\]"):
        H5Array.open(path, "rows", ())
    words = write_h5(tmp_path / "words.h5", "rows", np.array([b"a", b"b"]))
    with pytest.raises(TrainingError, match="expected numbers"):
        H5Array.open(words, "rows", ())
    (tmp_path / "no.h5").write_bytes(path.read_bytes()[:500])
    for broken in ("no.h5", "none.h5"):
        with pytest.raises(TrainingError, match="is missing, damaged, or no h5 file"):
            H5Array.open(tmp_path / broken, "rows", (2,))


def test_a_damaged_block_of_an_h5_file_is_a_bad_clip(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 3, (4, 5_000)).astype("f8")
    path = write_h5(tmp_path / "x.h5", "rows", rows, chunks=(1, 5_000), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        block = file["rows"].id.get_chunk_info(3)
    data = bytearray(path.read_bytes())
    data[block.byte_offset + 50 : block.byte_offset + 150] = bytes(100)
    path.write_bytes(data)
    opened = H5Array.open(path, "rows", (5_000,))
    with pytest.raises(BadClip, match=r"row 3 of '.*' is damaged"):
        opened.row(3)
    with pytest.raises(TrainingError, match="is damaged"):
        opened.all()


def test_bad_clips_end_or_are_collected() -> None:
    strict, lenient = Faults(), Faults(skip=True)
    with pytest.raises(BadClip, match="line 3: too bad"), strict.tolerated("line 3"):
        raise BadClip("too bad")
    with lenient.tolerated("line 3"):
        raise BadClip('too "bad"')
    assert lenient.csv() == b'clip,reason\r\nline 3,"too ""bad"""\r\n'
    with pytest.raises(TrainingError, match="all is bad"), lenient.tolerated("line 4"):
        raise TrainingError("all is bad")


def test_a_clip_has_a_name_and_splits_that_can_be_files() -> None:
    with pytest.raises(BadClip, match="it has no name"):
        Clip("", "line 2")
    for split in ("", "../x", "a b"):
        with pytest.raises(BadClip, match="no name of a split"):
            Clip("a", "line 2", (split,))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(1, 7))
def test_no_sentence_is_embedded_twice(sentences: list[str], block: int) -> None:
    asked: list[str] = []

    def embed(new: list[str]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        asked.extend(new)
        return np.array([[[ord(s)]] for s in new], np.float32), np.array([ord(s) - 96 for s in new])

    blocks = list(embedded(sentences, embed, block))
    assert sorted(asked) == sorted(set(sentences))
    assert [int(x) for text, _ in blocks for x in text[:, 0, 0]] == [ord(s) for s in sentences]
    assert [int(x) for _, words in blocks for x in words] == [ord(s) - 96 for s in sentences]
    assert all(len(text) <= block for text, _ in blocks)
