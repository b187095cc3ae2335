"""VGG19: its table of tensors, both conventions, and the average over frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.backbones import reference
from tests.training.backbones.parity import require_parity
from tests.training.backbones.random_weights import (
    VGG19_CLASSIFIER,
    VGG19_CONVOLUTIONS,
    vgg19_classifier,
)
from training.backbones.vgg19 import VGG19, Convention
from training.backbones.weights import Weights


def frames(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)


def test_the_table_is_that_of_the_public_file() -> None:
    shapes = [*VGG19_CONVOLUTIONS.values(), *VGG19_CLASSIFIER.values()]
    taps = [9] * len(VGG19_CONVOLUTIONS) + [1] * len(VGG19_CLASSIFIER)
    assert sum(i * o * t + o for (i, o), t in zip(shapes, taps, strict=True)) == 143_667_240


@pytest.mark.parametrize("convention", ["torchvision", "caffe"])
def test_features_are_those_of_the_formula(vgg19_tensors: dict[str, Tensor], convention: Convention) -> None:
    backbone = VGG19(Weights("w", vgg19_tensors), convention, frames=2).eval()
    pictures = frames(2, 2, 2, 64, 32)
    features = backbone(frames=pictures)
    assert features.shape == (2, 2, 2, 1, 512)
    assert features.dtype == torch.float32
    for b in range(2):
        for t in range(2):
            # The maps of the frames are averaged, not the frames.
            expected = np.mean(
                [reference.pool5(pictures[b, t, k].numpy(), vgg19_tensors, convention) for k in range(2)],
                axis=0,
            )
            assert np.abs(features[b, t].numpy() - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_spec_says_what_it_takes(vgg19_tensors: dict[str, Tensor]) -> None:
    spec = VGG19(Weights("w", vgg19_tensors), "caffe").spec
    assert (spec.backbone, spec.frames_per_segment) == ("vgg19-caffe", 16)
    assert (spec.height, spec.width, spec.grid, spec.feature_dim) == (224, 224, 7, 512)


def test_the_public_file_is_read_and_its_classifier_left_out(
    vgg19_file: Path, vgg19_tensors: dict[str, Tensor]
) -> None:
    backbone = VGG19(Weights.read(vgg19_file), frames=1)
    assert {name for name, _ in backbone.named_parameters()} == set(vgg19_tensors)
    assert torch.equal(backbone.features[34].weight, vgg19_tensors["features.34.weight"])
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_half_precision_weights_are_cast(vgg19_tensors: dict[str, Tensor]) -> None:
    half = {name: tensor.half() for name, tensor in vgg19_tensors.items()}
    assert {p.dtype for p in VGG19(Weights("w", half)).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"features.0.weight": None},
            "'w' is no VGG19 as torchvision names it: it lacks 'features.0.weight' of 32 tensors, and has "
            "'features.0.bias' and 30 more",
        ),
        (
            {"features.1.running_mean": torch.zeros(64), "features.1.running_var": torch.zeros(64)},
            "it also holds 'features.1.running_mean' and 1 more",
        ),
        (
            {"features.0.weight": torch.zeros(3, 3, 3, 64)},
            "'features.0.weight' is [3, 3, 3, 64], expected [64, 3, 3, 3]",
        ),
    ],
)
def test_other_tables_are_refused(
    vgg19_tensors: dict[str, Tensor], change: dict[str, Tensor | None], sentence: str
) -> None:
    changed = {**vgg19_tensors, **vgg19_classifier(), **change}
    tensors = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(TrainingError) as raised:
        VGG19(Weights("w", tensors))
    assert sentence in str(raised.value)


def test_the_graph_is_the_module(vgg19_tensors: dict[str, Tensor]) -> None:
    backbone = VGG19(Weights("w", vgg19_tensors), "caffe", frames=1).eval()
    shapes = ((2, 1), (1, 2))
    require_parity(backbone, ({"frames": frames(b, t, 1, 224, 224, seed=t)} for b, t in shapes))
