"""Convolutions of many small maps as matrix products, one a tap of the kernel.

On maps of a few cells with a thousand channels, products keep a processor busy where its convolution kernels do not: a
training step takes a quarter of the time in bfloat16 and three quarters in float32. No tap outside the map is computed.

N maps, C channels, k kernel side; a convolution without padding maps a big map onto a small one, a transposed one back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class MapConv2d(nn.Conv2d):
    """`nn.Conv2d` of stride one: the same parameters and results, faster to train on a processor."""

    def __init__(self, inputs: int, outputs: int, side: int, padding: int = 0, bias: bool = True) -> None:
        super().__init__(inputs, outputs, side, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W'], channels last in memory."""
        if not _pays(self, x):
            return super().forward(x)
        y: Tensor = _Convolution.apply(_cast(x), self.weight, self.bias, int(self.padding[0]))  # type: ignore[no-untyped-call]
        return y


class MapConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` of stride one without padding, likewise."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__(inputs, outputs, side)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W'], channels last in memory."""
        if not _pays(self, x):
            return super().forward(x, output_size)
        y: Tensor = _TransposedConvolution.apply(_cast(x), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


def _pays(module: nn.Module, x: Tensor) -> bool:
    """In training, on a processor. Inference keeps to the operators that can be exported."""
    return module.training and x.device.type == "cpu"


def _cast(x: Tensor) -> Tensor:
    """What autocast does with the input of a convolution."""
    return x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        shrinks = 2 * padding - weight.shape[2] + 1
        return _to_small(x, weight, bias, padding, (x.shape[2] + shrinks, x.shape[3] + shrinks))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy, padding = gradients[0], ctx.padding
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        dx = _to_big(dy, weight, None, padding, (x.shape[2], x.shape[3])) if needs_x else None
        dw = _weight_gradient(x, dy, weight, padding) if needs_weight else None
        return dx, dw, _bias_gradient(dy, weight) if needs_bias else None, None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        grows = weight.shape[2] - 1
        return _to_big(x, weight, bias, 0, (x.shape[2] + grows, x.shape[3] + grows))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = gradients[0]
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        dx = _to_small(dy, weight, None, 0, (x.shape[2], x.shape[3])) if needs_x else None
        dw = _weight_gradient(dy, x, weight, 0) if needs_weight else None
        return dx, dw, _bias_gradient(dy, weight) if needs_bias else None


# Weights are [small channels, big channels, k, k] throughout, and views `big`, `small` are [N, H, W, C].


def _to_small(
    big: Tensor, weight: Tensor, bias: Tensor | None, padding: int, size: tuple[int, int]
) -> Tensor:
    y = _filled(len(big), weight.shape[0], size, bias, big)
    weight = weight.to(big.dtype, memory_format=torch.channels_last)
    big, small = _channels_last(big), _channels_last(y)
    for i, j, of_small, of_big in _taps(weight.shape[2], padding, small, big):
        cells = small[of_small]
        product = big[of_big].flatten(0, 2) @ weight[:, :, i, j].T
        cells += product.view_as(cells)
    return y.to(big.dtype)


def _to_big(
    small: Tensor, weight: Tensor, bias: Tensor | None, padding: int, size: tuple[int, int]
) -> Tensor:
    y = _filled(len(small), weight.shape[1], size, bias, small)
    weight = weight.to(small.dtype, memory_format=torch.channels_last)
    small, big = _channels_last(small), _channels_last(y)
    for i, j, of_small, of_big in _taps(weight.shape[2], padding, small, big):
        cells = big[of_big]
        product = small[of_small].flatten(0, 2) @ weight[:, :, i, j]
        cells += product.view_as(cells)
    return y.to(small.dtype)


def _weight_gradient(big: Tensor, small: Tensor, weight: Tensor, padding: int) -> Tensor:
    big, small = _channels_last(big), _channels_last(small)
    gradient = torch.empty_like(weight, memory_format=torch.channels_last)
    for i, j, of_small, of_big in _taps(weight.shape[2], padding, small, big):
        gradient[:, :, i, j] = small[of_small].flatten(0, 2).T @ big[of_big].flatten(0, 2)
    return gradient.contiguous()


def _bias_gradient(dy: Tensor, weight: Tensor) -> Tensor:
    return dy.sum(dim=(0, 2, 3), dtype=weight.dtype)


def _filled(maps: int, channels: int, size: tuple[int, int], bias: Tensor | None, like: Tensor) -> Tensor:
    """Maps of the bias or of zeros, to add products to: in float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    y = torch.empty((maps, channels, *size), dtype=dtype, memory_format=torch.channels_last)
    return y.zero_() if bias is None else y.copy_(bias[:, None, None])


def _channels_last(maps: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C]; no copy for what is channels last in memory."""
    return maps.permute(0, 2, 3, 1)


Cells = tuple[slice, slice, slice]


def _taps(side: int, padding: int, small: Tensor, big: Tensor) -> Iterator[tuple[int, int, Cells, Cells]]:
    """Each tap (i, j), and the cells of the small and of the big map that it ties together."""
    everything = slice(None)
    for i in range(side):
        small_rows, big_rows = _overlap(i - padding, small.shape[1], big.shape[1])
        for j in range(side):
            small_columns, big_columns = _overlap(j - padding, small.shape[2], big.shape[2])
            yield i, j, (everything, small_rows, small_columns), (everything, big_rows, big_columns)


def _overlap(shift: int, small: int, big: int) -> tuple[slice, slice]:
    """Where positions 0..small and the same positions moved by `shift` in 0..big are both inside."""
    first, last = max(0, -shift), min(small, big - shift)
    return slice(first, last), slice(first + shift, last + shift)
