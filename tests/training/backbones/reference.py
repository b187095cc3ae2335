"""VGGish and VGG19 in float64 and plain formulas, by the numbers of their layers; nothing of Tessera is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tests.training.backbones.random_weights import (
    VGG19_CONVOLUTIONS,
    VGG19_POOLS,
    VGGISH_CONVOLUTIONS,
    VGGISH_EMBEDDINGS,
    VGGISH_POOLS,
)

Tensors = Mapping[str, Tensor]


def log_mel(second: NDArray[np.floating]) -> Tensor:
    """The patch [96, 64] of a second of sound at 16 kHz: a Fourier transform a frame, a triangle a band."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([second[160 * n : 160 * n + 400].astype(np.float64) * hann for n in range(96)])
    magnitude = np.abs(np.fft.rfft(frames, 512))
    mel = 1127 * np.log(1 + np.arange(257) * (16_000 / 512) / 700)
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    bands = np.zeros((257, 64))
    for band in range(64):
        left, peak, right = edges[band : band + 3]
        bands[1:, band] = np.interp(mel[1:], [left, peak, right], [0.0, 1.0, 0.0])
    return torch.from_numpy(np.log(magnitude @ bands + 0.01))


def vggish(patch: Tensor, tensors: Tensors) -> Tensor:
    """One log-mel patch [96, 64] up to the last activation, [128]."""
    x = patch.double()[None, None]
    for layer in range(16):
        if layer in VGGISH_CONVOLUTIONS:
            x = _convolution(x, layer, tensors)
        elif layer in VGGISH_POOLS:
            x = F.max_pool2d(x, 2)
    # Frame after frame, band after band, and the channels of each next to each other.
    vector = torch.stack([x[0, c, n, m] for n in range(6) for m in range(4) for c in range(512)])
    for layer in VGGISH_EMBEDDINGS:
        weight, bias = (tensors[f"embeddings.{layer}.{kind}"].double() for kind in ("weight", "bias"))
        vector = weight @ vector + bias
        if layer != max(VGGISH_EMBEDDINGS):
            vector = vector.clamp(min=0)
    return vector


def pool5(picture: NDArray[np.uint8], tensors: Tensors, convention: str) -> NDArray[np.float64]:
    """What the last pooling of VGG19 says of one picture [H, W, 3] RGB, [H / 32, W / 32, 512]."""
    x = torch.from_numpy(_prepared(picture, convention))[None]
    for layer in range(37):
        if layer in VGG19_CONVOLUTIONS:
            x = _convolution(x, layer, tensors)
        elif layer in VGG19_POOLS:
            x = F.max_pool2d(x, 2)
    return x[0].permute(1, 2, 0).numpy()


def _prepared(picture: NDArray[np.uint8], convention: str) -> NDArray[np.float64]:
    """[H, W, 3] RGB -> [3, H, W], value by value."""
    planes = np.empty((3, *picture.shape[:2]))
    for channel in range(3):
        if convention == "torchvision":
            mean, deviation = (0.485, 0.456, 0.406)[channel], (0.229, 0.224, 0.225)[channel]
            planes[channel] = (picture[:, :, channel] / 255.0 - mean) / deviation
        else:
            planes[channel] = picture[:, :, 2 - channel] - (103.939, 116.779, 123.68)[channel]
    return planes


def _convolution(x: Tensor, layer: int, tensors: Tensors) -> Tensor:
    weight, bias = (tensors[f"features.{layer}.{kind}"].double() for kind in ("weight", "bias"))
    return F.conv2d(x, weight, bias, padding=1).clamp(min=0)
