"""`tessera features`: raw clips to a feature store, through the real command and real processes."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import typer
from typer.testing import CliRunner

from tessera.bundle import TimeGrid
from tessera.errors import TrainingError
from tessera.limits import Limits
from tessera.media import read_video
from tessera.windows import Modality
from tests.conftest import require
from tests.media_files import chirp, shades, video_file
from training.backbones.bert import bert_tokenizer
from training.data.clip_pool import read_clips
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.features_command import features
from training.data.manifest import ClipRow, read_manifest
from training.data.shards import Shards, save_shard
from training.data.store import FeatureStore

ROWS = 10
COLUMNS = ("id", "path", "caption", "label", "split")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three seconds, one of twelve, and speech of about two."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "short.mp4").write_bytes(
        video_file("mp4", shades(range(10, 250, 8)), sound=(chirp(3, 48_000), 48_000))
    )
    (folder / "long.webm").write_bytes(
        video_file("vp8", shades(range(10, 250, 2)), sound=(chirp(12, 48_000), 48_000))
    )
    espeak = require(shutil.which("espeak-ng"), "speech", "espeak-ng")
    words = "rain falls on the roof of the old house by the sea"
    subprocess.run([espeak, "-w", folder / "speech.wav", words], check=True)
    (folder / "broken.mp4").write_bytes((folder / "short.mp4").read_bytes()[:500])
    return folder


def write_manifest(path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str] = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def run(*arguments: object, fails: bool = False) -> str:
    """What the command says, in one process and its workers."""
    app = typer.Typer()
    app.command()(features)
    result = CliRunner().invoke(app, [*map(str, arguments), "--workers", "1"])
    if fails:
        assert result.exception is not None
        return str(result.exception)
    assert result.exit_code == 0, result.exception
    return " ".join(result.output.split())


def test_clips_of_all_lengths_become_a_store(media: Path, tmp_path: Path) -> None:
    rows = [
        ("a", media / "short.mp4", "a dog barks", "dog", "train"),
        ("b", media / "long.webm", "rain on a roof", "rain", "test"),
        ("c", media / "short.mp4", "nothing", "", "train"),
    ]
    out = tmp_path / "mine"
    said = run(write_manifest(tmp_path / "clips.csv", rows), "--out", out)
    assert "3 clips, 10 s each, 2 of them shorter and filled up" in said
    assert str(out) in said
    store = FeatureStore.load(out)
    assert (store.name, store.ids, store.classes, store.splits) == (
        "mine",
        ("a", "b", "c"),
        ("dog", "rain"),
        ("train", "test"),
    )
    assert store.manifest.features == {"audio": "classic", "video": "classic", "text": "classic"}
    whole = store.split()
    assert whole.labels.tolist() == [0, 1, -1]
    assert store.split("train").ids == ("a", "c")
    assert whole.words is not None
    assert whole.words.tolist() == [3, 4, 1]
    assert json.loads((out / "lengths.json").read_text())["a"] == {"audio": 3, "video": 3}
    settings = ReaderSettings(dict(store.manifest.features), (out / "tokenizer.json").read_text())
    expected = ClipReader(settings).read(read_manifest(tmp_path / "clips.csv").rows[0])
    for modality in ("audio", "video"):
        found = getattr(whole, modality)
        assert np.array_equal(found[0, :3], expected[modality])
        assert np.array_equal(found[0, 3:], np.repeat(found[0, 2:3], 7, axis=0))
        assert not np.array_equal(found[1, 8], found[1, 9])
    assert not list(tmp_path.glob(".mine*"))


def test_a_bad_clip_ends_it_or_is_left_out(media: Path, tmp_path: Path) -> None:
    rows = [
        ("speech", media / "speech.wav"),
        ("broken", media / "broken.mp4"),
        ("gone", media / "gone.wav"),
        ("film", media / "short.mp4"),
    ]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows, ("id", "path")), tmp_path / "store"
    said = run(manifest, "--out", out, "--video", "none", fails=True)
    assert said.startswith(f"clip 'broken': '{media / 'broken.mp4'}': ")
    assert said.endswith("(--skip-bad leaves out clips like this)")
    assert not out.exists()
    assert "another choice of backbones" in run(manifest, "--out", out, "--video", "classic", fails=True)
    said = run(manifest, "--out", out, "--video", "none", "--skip-bad")
    assert "left out: clip 'broken': " in said
    assert f"left out: clip 'gone': '{media / 'gone.wav'}': No such file or directory" in said
    assert "finished before" in said
    store = FeatureStore.load(out)
    assert store.ids == ("speech", "film")
    assert store.split().modalities == ("audio",)
    assert json.loads((out / "left_out.json").read_text()).keys() == {"broken", "gone"}
    assert store.manifest.notes["left out"] == "2 clips that cannot be read"
    assert "is there already" in run(manifest, "--out", out, "--video", "none", fails=True)


def test_several_captions_through_a_bert(bert_folder: Path, tmp_path: Path) -> None:
    captions = [["a dog barks", "the old dog barks loudly at night"], ["rain and wind"]]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"caption": c}) for c in captions))
    out = tmp_path / "store"
    run(tmp_path / "texts.jsonl", "--out", out, "--text", f"bert:{bert_folder}")
    store = FeatureStore.load(out)
    text, words, items = store.captions()
    assert (text.shape, words.tolist(), items.tolist()) == ((3, 10, 24), [3, 7, 3], [0, 0, 1])
    assert store.split().words is not None
    assert "text: model.safetensors" in store.manifest.sources
    assert store.manifest.features == {"text": "bert"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--audio", "none", "--video", "none"], "no modality is left to extract features of"),
        (["--text", "classic"], "--text is given, but the manifest has no text"),
        (["--video", "vgg19:none.pth"], "there is no file of weights 'none.pth'"),
        (["--audio", "loud"], "there is no backbone 'loud' for audio"),
        pytest.param(
            ["--device", "cuda"],
            "a CUDA device was asked for, this machine has none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one"),
        ),
    ],
)
def test_a_wrong_wish_is_told_why(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    manifest = write_manifest(tmp_path / "clips.csv", [("a.mp4",)], ("path",))
    assert sentence in run(manifest, "--out", tmp_path / "store", *arguments, fails=True)
    assert not (tmp_path / "store").exists()


def test_a_killed_extraction_goes_on(media: Path, tmp_path: Path) -> None:
    """The real command, killed without a chance to tidy up: nothing is at the target, and no process stays behind."""
    rows = [(f"c{i:02}", media / "long.webm", f"dog {i}", "dog", "all") for i in range(ROWS)]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows), tmp_path / "store"
    command = [sys.executable, "-m", "tessera", "features", manifest, "--out", out, "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    kept = tmp_path / ".store.clips"
    deadline = time.monotonic() + 120
    while len(list(kept.glob("*.safetensors"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=30)[1]
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
    rows = [ClipRow(f"c{i}", media / "long.webm") for i in range(4)]
    shards = Shards(tmp_path / "store", {})
    reading = read_clips(rows, range(4), shards, ReaderSettings({"audio": "classic"}), 1)
    assert next(reading) == (0, None)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(TrainingError, match=r"a process died while these clips were read: 'c\d'"):
        list(reading)
    assert 0 in shards.done()
    assert not multiprocessing.active_children()


def test_nobody_waits_for_clips_after_a_stop(media: Path, tmp_path: Path) -> None:
    rows = [ClipRow(f"c{i}", media / "long.webm") for i in range(50)]
    reading = read_clips(
        rows, range(50), Shards(tmp_path / "store", {}), ReaderSettings({"audio": "classic"}), 1
    )
    assert next(reading) == (0, None)
    reading.close()
    assert not multiprocessing.active_children()
    assert len(Shards(tmp_path / "store", {}).done()) < 50


def test_settings_may_change_until_a_clip_is_finished(tmp_path: Path) -> None:
    target, array = tmp_path / "store", {"audio": np.zeros((2, 3), np.float32)}
    Shards(target, {"limit": 1}).text("tokenizer.json", lambda: "of then")
    shards = Shards(target, {"limit": 2})
    assert shards.text("tokenizer.json", lambda: "of now") == "of now"
    save_shard(shards.path(7), array)
    assert Shards(target, {"limit": 2}).text("tokenizer.json", lambda: "later") == "of now"
    assert (shards.done(), shards.lengths(7)) == ({7}, {"audio": 2})
    with pytest.raises(TrainingError, match="holds finished clips of an extraction with another limit"):
        Shards(target, {"limit": 3})


def test_another_manifest_does_not_go_on(media: Path, tmp_path: Path) -> None:
    rows = [("a", media / "speech.wav"), ("b", media / "broken.mp4")]
    manifest, out = write_manifest(tmp_path / "clips.csv", rows, ("id", "audio")), tmp_path / "store"
    run(manifest, "--out", out, fails=True)
    write_manifest(manifest, rows[:1], ("id", "audio"))
    said = run(manifest, "--out", out, fails=True)
    assert said.startswith(
        f"'{tmp_path / '.store.clips'}' holds finished clips of an extraction with another manifest"
    )


def test_deep_backbones_read_a_clip(media: Path, vgg19_file: Path, bert_folder: Path) -> None:
    """Second by second, the store has what the module says of all seconds at once."""
    choices: dict[Modality, str] = {"video": f"vgg19:{vgg19_file},frames=1", "text": f"bert:{bert_folder}"}
    reader = ClipReader(ReaderSettings(choices, bert_tokenizer(bert_folder)))
    row = read_manifest(_one_row(media)).rows[0]
    arrays = reader.read(row)
    assert arrays["video"].shape == (3, 7, 7, 512)
    assert arrays["text"].shape == (1, 10, 24)
    assert reader.video is not None
    spec = reader.video.spec
    with read_video(media / "short.mp4", spec, TimeGrid(), Limits()) as windows, torch.no_grad():
        expected = reader.video(frames=torch.from_numpy(next(windows).frames)[None])[0].numpy()
    assert np.allclose(arrays["video"], expected, rtol=2e-3, atol=1e-4 * expected.max())


def _one_row(media: Path) -> Path:
    return write_manifest(media / "one.csv", [(media / "short.mp4", "a dog")], ("path", "caption"))
