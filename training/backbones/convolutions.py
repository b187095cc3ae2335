"""The convolutional blocks of VGG networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn


def vgg_blocks(channels: int, blocks: Sequence[tuple[int, int]]) -> Iterator[nn.Module]:
    """3 x 3 convolutions with ReLU, `(width, depth)` of them a block, and a pooling by two behind each block."""
    for width, depth in blocks:
        for _ in range(depth):
            yield nn.Conv2d(channels, width, kernel_size=3, padding=1)
            yield nn.ReLU(inplace=True)
            channels = width
        yield nn.MaxPool2d(kernel_size=2, stride=2)
