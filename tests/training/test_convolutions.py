"""Convolutions as matrix products are torch's convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.config import ModelConfig
from training.models.convolutions import MapConv2d, MapConvTranspose2d
from training.models.encoders import VideoSpecific


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of the input and of every parameter for one and the same cotangent."""
    x = x.detach().requires_grad_()
    y = module(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return y, list(torch.autograd.grad(y, [x, *module.parameters()], cotangent))


sizes = st.integers(1, 6)


@settings(deadline=None)
@given(height=sizes, width=sizes, side=st.integers(1, 3), padding=st.integers(0, 2), bias=st.booleans())
def test_a_convolution_and_its_gradients(
    height: int, width: int, side: int, padding: int, bias: bool
) -> None:
    height, width = max(height, side - 2 * padding), max(width, side - 2 * padding)
    ours = MapConv2d(3, 4, side, padding=padding, bias=bias).double()
    theirs = nn.Conv2d(3, 4, side, padding=padding, bias=bias).double()
    require_equal(ours, theirs, torch.randn(2, 3, height, width, dtype=torch.float64))


@settings(deadline=None)
@given(height=sizes, width=sizes, side=st.integers(1, 3))
def test_a_transposed_convolution_and_its_gradients(height: int, width: int, side: int) -> None:
    ours = MapConvTranspose2d(3, 4, side).double()
    theirs = nn.ConvTranspose2d(3, 4, side).double()
    require_equal(ours, theirs, torch.randn(2, 3, height, width, dtype=torch.float64))


def require_equal(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    theirs.load_state_dict(ours.state_dict())
    y, ours_gradients = gradients(ours, x)
    expected, their_gradients = gradients(theirs, x)
    torch.testing.assert_close(y, expected)
    for gradient, their_gradient in zip(ours_gradients, their_gradients, strict=True):
        torch.testing.assert_close(gradient, their_gradient)
    torch.testing.assert_close(ours.eval()(x), expected)


@pytest.mark.parametrize(
    "module", [MapConv2d(8, 16, 3), MapConvTranspose2d(8, 16, 3)], ids=lambda m: type(m).__name__
)
def test_autocast_computes_in_bfloat16_and_keeps_the_weights(module: nn.Module) -> None:
    x = torch.randn(5, 8, 4, 4)
    exact, exact_gradients = gradients(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        y, rounded = gradients(module, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.02)
    for gradient, expected in zip(rounded, exact_gradients, strict=True):
        assert gradient.dtype == torch.float32
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=0.05, atol=0.02 * scale)


def test_maps_stay_channels_last_from_the_features_to_the_specific_map() -> None:
    """So that neither products nor a GPU's kernels copy them."""
    config = ModelConfig(video_dim=6, video_hidden=(4, 8), club_video_dim=4)
    maps, _ = VideoSpecific(config).train()(torch.rand(2, 3, 7, 7, 6))
    assert maps.shape == (6, 8, 3, 3)
    assert maps.is_contiguous(memory_format=torch.channels_last)


def test_gradients_lie_in_memory_as_their_weights_do() -> None:
    """So that no optimiser step copies one."""
    module: Any = MapConv2d(4, 4, 3)
    module(torch.randn(2, 4, 5, 5)).sum().backward()
    assert module.weight.grad.stride() == module.weight.stride()
