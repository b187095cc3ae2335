"""Feature stores: what is written is read, in part or whole, and nothing half-written is ever at the target."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from training.data.features import FeatureSet, take
from training.data.store import FeatureStore
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter

FACTS = StoreFacts(name="mine", task="classification", classes=("dog", "cat"), features={"audio": "VGGish"})
RNG = np.random.default_rng(0)
AUDIO = RNG.normal(size=(5, 10, 128)).astype(np.float32)
VIDEO = RNG.random((5, 10, 2, 2, 3)).astype(np.float16)
TEXT = RNG.normal(size=(7, 4, 6)).astype(np.float32)
WORDS = np.array([1, 2, 3, 4, 1, 2, 3])
ITEMS = [0, 0, 1, 2, 3, 4, 4]
IDS = ("a", "b", "c", "d", "e")


def write(target: Path, *, items: list[int] | None = ITEMS) -> FeatureStore:
    """Five clips in two appends, with more texts than clips or one each."""
    with StoreWriter(target, FACTS) as writer:
        writer.append(IDS[:3], [0, 1, 0], audio=AUDIO[:3], video=VIDEO[:3])
        writer.append(IDS[3:], [1, -1], audio=AUDIO[3:], video=VIDEO[3:])
        count = 5 if items is None else 7
        writer.append_text(TEXT[:count], WORDS[:count], items)
        writer.add_split("train", np.array([0, 1, 2]))
        writer.add_split("odd", np.array([3, 1]))
        writer.sources["list.csv"] = "00"
        writer.notes["left out"] = "nothing"
    return FeatureStore.load(target)


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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_the_store_does_not_depend_on_how_it_was_fed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("fed")
    total = sum(sizes)
    rows = np.arange(total * 6, dtype=np.float32).reshape(total, 2, 3)
    for name, steps in (("pieces", sizes), ("whole", [total])):
        with StoreWriter(folder / name, StoreFacts(name="x")) as writer:
            start = 0
            for size in steps:
                writer.append([str(i) for i in range(start, start + size)], audio=rows[start : start + size])
                start += size
    files = {name: (folder / name / "audio.npy").read_bytes() for name in ("pieces", "whole")}
    assert files["pieces"] == files["whole"]
    assert (folder / "pieces" / "store.json").read_bytes() == (folder / "whole" / "store.json").read_bytes()
    loaded = FeatureStore.load(folder / "pieces").split()
    assert loaded.audio is not None
    np.testing.assert_array_equal(loaded.audio, rows)


def test_rows_that_no_store_can_hold(tmp_path: Path) -> None:
    def feed(**rows: object) -> None:
        with StoreWriter(tmp_path / "store", FACTS) as writer:
            writer.append(["a"], audio=AUDIO[:1])
            writer.append(**rows)  # type: ignore[arg-type]

    broken = AUDIO[:2].copy()
    broken[1, 3, 5] = np.nan
    for sentence, rows in (
        ("clip 'a' comes twice", {"ids": ["a"], "audio": AUDIO[:1]}),
        ("audio of clip 'c' holds values that are no finite float32", {"ids": ["b", "c"], "audio": broken}),
        (
            r"audio of clip 'b' is \[9, 128\], that of others \[10, 128\]",
            {"ids": ["b"], "audio": AUDIO[:1, :9]},
        ),
        ("1 rows of audio for 2 clips", {"ids": ["b"]}),
        ("2 rows of audio for 1 clips", {"ids": ["b"], "audio": AUDIO[:2]}),
        ("video is <U1, expected real numbers", {"ids": ["b"], "video": np.array(["x"])}),
    ):
        with pytest.raises(TrainingError, match=sentence):
            feed(**rows)
        assert list(tmp_path.iterdir()) == []


def test_texts_and_splits_fit_the_clips(tmp_path: Path) -> None:
    def feed(items: list[int], train: list[int], clips: int = 5) -> None:
        with StoreWriter(tmp_path / "store", FACTS) as writer:
            writer.append(IDS[:clips], audio=AUDIO[:clips])
            writer.append_text(TEXT[: len(items)], WORDS[: len(items)], items)
            writer.add_split("train", np.array(train))

    for sentence, items, train, clips in (
        ("at least one to each", [0, 0, 1, 2, 3, 3, 3], [0], 5),
        ("at least one to each", [0, 1, 2, 3, 4, 5], [0], 5),
        ("rows outside 0 to 4", [0, 1, 2, 3, 4], [5], 5),
        ("a store without clips", [], [], 0),
    ):
        with pytest.raises(TrainingError, match=sentence):
            feed(items, train, clips)
        assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match="is there already"):
        write(tmp_path / "store")
    assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before


def test_two_processes_do_not_write_one_store(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", FACTS) as first:
        with pytest.raises(TrainingError, match="another process is writing"):
            write(tmp_path / "store")
        first.append(IDS, audio=AUDIO)
    assert len(FeatureStore.load(tmp_path / "store")) == 5


ENDLESS = """
import sys, time
from pathlib import Path
import numpy as np
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter
with StoreWriter(Path(sys.argv[1]), StoreFacts(name="mine")) as writer:
    writer.append(["a"], audio=np.ones((1, 10, 128), np.float32))
    print("begun", flush=True)
    time.sleep(600)
"""


def test_a_kill_leaves_no_store_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, target], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".store.part"]
    write(target)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from tessera.errors import TrainingError
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with StoreWriter(Path(sys.argv[1]), StoreFacts(name="mine")) as writer:
        for i in range(int(sys.argv[2])):
            writer.append([str(i)], audio=np.ones((1, 10, 128), np.float32))
except TrainingError as error:
    print(error)
"""


@pytest.mark.parametrize("clips", [40, 400])
def test_a_disk_that_takes_no_more_leaves_nothing(clips: int, tmp_path: Path) -> None:
    """Files may not pass 200 kB: the 40th clip is too much, be it while writing or with the last buffer."""
    target = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-c", FULL, target, str(clips)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"'{target}' cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


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
