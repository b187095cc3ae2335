"""Files as people have them, through the command line and over HTTP, with identical codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import require
from tests.media_files import chirp, sine, sound_file, video_file
from tests.service.running import RunningServer, running_server

SYSTEM_SOUND = "/usr/share/sounds/freedesktop/stereo/bell.oga"


@pytest.fixture(scope="module")
def demo_server() -> Iterator[RunningServer]:
    """A server of the demo bundle, as `make serve` starts it."""
    with running_server(None) as server:
        yield server


def moving_square(seconds: int, fps: int, height: int, width: int) -> np.ndarray:
    """A bright square that crosses a dark picture, [n, height, width, 3]."""
    pictures = np.full((seconds * fps, height, width, 3), 30, np.uint8)
    for number, picture in enumerate(pictures):
        left = number * (width - 20) // len(pictures)
        picture[height // 3 : height // 3 + 20, left : left + 20] = (230, 60, 40)
    return pictures


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    voice = require(shutil.which("espeak-ng"), "espeak-ng", "espeak-ng")
    subprocess.run([voice, "-w", folder / "spoken.wav", "A dog barks behind the house."], check=True)
    pictures = moving_square(3, 10, 96, 160)
    stereo = np.concatenate([sine(3.0, 48_000), chirp(3.0, 48_000)])
    (folder / "clip.webm").write_bytes(video_file("vp9", pictures, sound=(stereo, 48_000)))
    (folder / "phone.mp4").write_bytes(
        video_file("mp4", pictures, rotation=-90, sound=(chirp(3.0, 44_100), 44_100))
    )
    (folder / "twenty_minutes.mp3").write_bytes(sound_file("mp3", chirp(20 * 60.0), 16_000))
    return folder


def by_command_line(path: Path, *options: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tessera", "tokenize", str(path), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def by_http(server: RunningServer, path: Path, kind: str, query: str = "") -> dict[str, object]:
    answer = httpx.post(
        f"{server.url}/tokenize{query}",
        content=path.read_bytes(),
        headers={"Content-Type": kind},
        timeout=900,
    )
    assert answer.status_code == 200, answer.text
    (entry,) = answer.json()["data"]
    return dict(entry)


def assert_identical(entry: dict[str, object], printed: dict[str, object]) -> None:
    for name in ("modality", "codes", "clip_codes", "duration_sec", "segments", "truncated"):
        assert entry[name] == printed[name], name


@pytest.mark.parametrize(
    ("name", "kind", "modality"),
    [
        ("spoken.wav", "audio/wav", "audio"),
        ("clip.webm", "video/webm", "video"),
        ("phone.mp4", "video/mp4", "video"),
    ],
)
def test_a_real_file_has_the_same_codes_either_way(
    demo_server: RunningServer, files: Path, name: str, kind: str, modality: str
) -> None:
    entry = by_http(demo_server, files / name, kind)
    assert entry["modality"] == modality
    assert_identical(entry, by_command_line(files / name))


def test_the_sound_track_of_a_video_is_a_clip_of_its_own(demo_server: RunningServer, files: Path) -> None:
    entry = by_http(demo_server, files / "phone.mp4", "video/mp4", "?track=audio")
    assert entry["modality"] == "audio"
    assert_identical(entry, by_command_line(files / "phone.mp4", "--modality", "audio"))


def test_a_system_sound(demo_server: RunningServer) -> None:
    path = require(SYSTEM_SOUND, "the freedesktop sounds", "sound-theme-freedesktop")
    assert_identical(by_http(demo_server, path, "audio/ogg"), by_command_line(path))


def test_twenty_minutes_of_sound(demo_server: RunningServer, files: Path) -> None:
    entry = by_http(demo_server, files / "twenty_minutes.mp3", "audio/mpeg")
    assert isinstance(entry["codes"], list)
    assert len(entry["codes"]) == 20 * 60
    assert_identical(entry, by_command_line(files / "twenty_minutes.mp3"))
