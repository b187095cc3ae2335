"""Extractions that end before their time, and what the next one makes of the clips that are finished."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tessera.errors import TrainingError
from tests.training.backbones.extractions import run, write_manifest
from training.data.clip_pool import read_clips
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.manifest import ClipRow, read_manifest
from training.data.shards import Shards, save_shard, shards_folder
from training.data.store import FeatureStore
from training.data.working_folder import locked

ROWS = 10


def test_a_killed_extraction_goes_on(media: Path, tmp_path: Path) -> None:
    """The real command, killed without a chance to tidy up: nothing is at the target, and no process stays behind.

    As long as it runs, nobody else makes the same store.
    """
    rows = [(f"c{i:02}", media / "long.webm", f"dog {i}", "dog", "all") for i in range(ROWS)]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows), tmp_path / "store"
    command = [sys.executable, "-m", "tessera", "features", manifest, "--out", out, "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    kept = tmp_path / ".store.clips"
    deadline = time.monotonic() + 900
    while len(list(kept.glob("*.safetensors"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # However late this test gets to the kill, there are clips left.
    process.send_signal(signal.SIGSTOP)
    assert f"another process is writing '{kept}'; wait for it" in run(manifest, "--out", out, fails=True)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=300)[1]
    assert not out.exists()
    first = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert 0 < len(first) < ROWS
    damaged = kept / min(first)
    os.truncate(damaged, 100)
    said = run(manifest, "--out", out)
    assert f"{ROWS} clips, 10 s each, {len(first) - 1} finished before" in said
    whole = FeatureStore.load(out).split()
    assert whole.ids == tuple(row[0] for row in rows)
    expected = ClipReader(ReaderSettings({"audio": "classic", "video": "classic"})).read(
        read_manifest(manifest).rows[0]
    )
    for modality in ("audio", "video"):
        assert (getattr(whole, modality) == expected[modality]).all()


def test_a_worker_that_dies_is_told(media: Path, tmp_path: Path) -> None:
    rows = [ClipRow(f"c{i}", media / "long.webm", captions=(str(i),)) for i in range(4)]
    shards = Shards(tmp_path / "store", {})
    reading = read_clips(rows, shards, ReaderSettings({"audio": "classic"}), 1)
    assert next(reading) == (rows[0], None)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(TrainingError, match=r"a process died while these clips were read: 'c\d'"):
        list(reading)
    assert rows[0].digest in shards.done()
    assert not multiprocessing.active_children()


def test_nobody_waits_for_clips_after_a_stop(media: Path, tmp_path: Path) -> None:
    rows = [ClipRow(f"c{i}", media / "long.webm", captions=(str(i),)) for i in range(50)]
    reading = read_clips(rows, Shards(tmp_path / "store", {}), ReaderSettings({"audio": "classic"}), 1)
    assert next(reading) == (rows[0], None)
    reading.close()
    assert not multiprocessing.active_children()
    assert len(Shards(tmp_path / "store", {}).done()) < 50


def test_settings_may_change_until_a_clip_is_finished(tmp_path: Path) -> None:
    target, array = tmp_path / "store", {"audio": np.zeros((2, 3), np.float32)}
    Shards(target, {"limit": 1}).text("tokenizer.json", lambda: "of then")
    shards = Shards(target, {"limit": 2})
    assert shards.text("tokenizer.json", lambda: "of now") == "of now"
    save_shard(shards.path("7a"), array)
    assert Shards(target, {"limit": 2}).text("tokenizer.json", lambda: "later") == "of now"
    assert (shards.done(), shards.lengths("7a")) == ({"7a"}, {"audio": 2})
    with pytest.raises(TrainingError, match="holds finished clips of an extraction with another limit"):
        Shards(target, {"limit": 3})


def test_a_repaired_manifest_goes_on(media: Path, tmp_path: Path) -> None:
    """What is finished is used as far as it is still asked for, under whatever id, label and split."""
    columns = ("id", "audio", "label", "split")
    rows = [
        ("a", media / "speech.wav", "dgo", "train"),
        ("b", media / "short.mp4", "rain", "train"),
        ("c", media / "broken.mp4", "rain", "train"),
    ]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows, columns), tmp_path / "store"
    run(manifest, "--out", out, fails=True)
    finished = {path.name: path.stat().st_mtime_ns for path in shards_folder(out).glob("*.safetensors")}
    assert len(finished) == 2
    first = ("first", media / "speech.wav", "dog", "test")
    again = ("again", media / "speech.wav", "rain", "train")
    write_manifest(manifest, [("new", media / "long.webm", "rain", "train"), first, again], columns)
    assert "3 clips, 10 s each, 2 of them shorter and filled up, 2 finished before" in run(
        manifest, "--out", out
    )
    store = FeatureStore.load(out)
    whole = store.split()
    assert (whole.ids, store.classes, whole.labels.tolist()) == (
        ("new", "first", "again"),
        ("dog", "rain"),
        [1, 0, 1],
    )
    assert store.split("test").ids == ("first",)
    reader = ClipReader(ReaderSettings({"audio": "classic"}))
    assert whole.audio is not None
    for clip, file in zip(whole.audio, ("long.webm", "speech.wav", "speech.wav"), strict=True):
        expected = reader.read(ClipRow("x", media / file))["audio"]
        assert np.array_equal(clip[: len(expected)], expected)


def test_rows_that_are_equal_are_read_once(media: Path, tmp_path: Path) -> None:
    rows = [(name, media / "gone.wav") for name in ("a", "b")] + [("c", media / "speech.wav")]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows, ("id", "audio")), tmp_path / "store"
    said = run(manifest, "--out", out, "--skip-bad", status=1)
    assert said.count("No such file or directory") == 2
    assert FeatureStore.load(out).ids == ("c",)


def test_a_clip_is_known_by_its_files_and_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ClipRow("a", tmp_path / "a.wav", None, ("rain", "wind"), "rain", "train")
    assert replace(row, id="b", label=None, split="test").digest == row.digest
    others = [
        replace(row, captions=("wind", "rain")),
        replace(row, captions=("rainwind",)),
        replace(row, audio=None, video=row.audio),
        replace(row, audio=tmp_path / "b.wav"),
    ]
    assert len({clip.digest for clip in [row, *others]}) == 5
    monkeypatch.chdir(tmp_path)
    assert replace(row, audio=Path("a.wav")).digest == row.digest


def test_who_waits_for_a_folder_that_is_gone_has_to_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening it and holding it, the holder removes the folder."""
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        (tmp_path / "x").rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(TrainingError, match="another process is writing"), locked(tmp_path / "x"):
        pass
