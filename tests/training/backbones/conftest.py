"""Random weights of full size, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

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
