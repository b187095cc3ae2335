"""Conversions that end before their time: no store, or the one that was there, and the next one can begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tessera.errors import TrainingError
from tests.training.data.commands import tessera
from tests.training.data.released_files import DATASETS
from training.data.archives.conversion import require_room
from training.data.archives.reading import Ready


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
