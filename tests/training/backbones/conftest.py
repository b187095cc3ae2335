"""Random weights of full size and media of several lengths, made once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import require
from tests.media_files import chirp, shades, video_file
from tests.training.backbones import random_weights


@pytest.fixture(scope="session")
def vgg19_tensors() -> dict[str, Tensor]:
    """Of VGG19, without its classifier."""
    return random_weights.vgg19_tensors()


@pytest.fixture(scope="session")
def vggish_tensors() -> dict[str, Tensor]:
    """Of VGGish."""
    return random_weights.vggish_tensors()


@pytest.fixture(scope="session")
def vgg19_file(vgg19_tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision's, in the format of its time."""
    path = tmp_path_factory.mktemp("vgg19") / "vgg19-dcbb9e9d.pth"
    torch.save(vgg19_tensors | random_weights.vgg19_classifier(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT."""
    return random_weights.write_bert(tmp_path_factory.mktemp("bert") / "small")


@pytest.fixture(scope="session")
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
