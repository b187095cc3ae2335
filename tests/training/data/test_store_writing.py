"""Writing a feature store: what no store can hold is refused, and nothing half-written is ever at the target."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from tests.training.data.known_store import AUDIO, FACTS, IDS, TEXT, WORDS, write
from training.data.store import FeatureStore
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter


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
