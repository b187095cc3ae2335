"""VGG19 as Keras gives it out is VGG19 as torchvision names it."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.backbones.random_weights import VGG19_CONVOLUTIONS
from training.backbones.catalogue import video_backbone
from training.backbones.vgg19 import VGG19
from training.backbones.weights import Weights

# The convolutions of each block, by Keras's names, in the order of torchvision's numbers.
NAMES = [f"block{b}_conv{c}" for b, depth in enumerate((2, 2, 4, 4, 4), 1) for c in range(1, depth + 1)]
KERNEL_AND_BIAS = {"old": ("{0}_W_1:0", "{0}_b_1:0"), "new": ("{0}/kernel:0", "{0}/bias:0")}


def write(path: Path, tensors: dict[str, Tensor], names: tuple[str, str]) -> Path:
    """In the layout of Keras's file: a group a layer, poolings among them."""
    with h5py.File(path, "w") as file:
        for name, number in zip(NAMES, VGG19_CONVOLUTIONS, strict=True):
            weight, bias = tensors[f"features.{number}.weight"], tensors[f"features.{number}.bias"]
            group = file.create_group(name)
            group[names[0].format(name)] = weight.permute(2, 3, 1, 0).numpy()
            group[names[1].format(name)] = bias.numpy()
        file.create_group("block1_pool")
    return path


@pytest.mark.parametrize("names", KERNEL_AND_BIAS.values(), ids=KERNEL_AND_BIAS)
def test_kernels_are_turned_round(
    tmp_path: Path, vgg19_tensors: dict[str, Tensor], names: tuple[str, str]
) -> None:
    path = write(tmp_path / "notop.h5", vgg19_tensors, names)
    found = video_backbone(f"vgg19:{path},convention=caffe,frames=2")
    expected = VGG19(Weights("w", vgg19_tensors), "caffe", frames=2)
    assert found.spec == expected.spec
    assert all(
        torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.state_dict().items()
    )


def test_keras_weights_with_the_wrong_pixels_are_refused(
    tmp_path: Path, vgg19_tensors: dict[str, Tensor]
) -> None:
    path = write(tmp_path / "notop.h5", vgg19_tensors, KERNEL_AND_BIAS["old"])
    with pytest.raises(TrainingError, match="add ,convention=caffe"):
        video_backbone(f"vgg19:{path}")


def test_another_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["block1_conv1"] = [1.0]
    for name, sentence in {
        "other.h5": "no kernel and bias of 'block1_conv1'",
        "gone.h5": "is missing",
    }.items():
        with pytest.raises(TrainingError, match=sentence):
            video_backbone(f"vgg19:{tmp_path / name},convention=caffe")
