"""VGG19 up to pool5, with the tensor names of torchvision (Simonyan and Zisserman, 2015, configuration E).

B batch, T segments, K frames a segment, H x W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tessera.bundle import VideoSpec
from training.backbones.backbone import Backbone
from training.backbones.convolutions import vgg_blocks
from training.backbones.weights import Weights

Convention = Literal["torchvision", "caffe"]

FRAMES_PER_SEGMENT = 16
_SIDE, _GRID, _CHANNELS = 224, 7, 512
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_CLASSIFIER = frozenset(f"classifier.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias"))

# What is taken from a pixel in 0..255, and what it is then divided by: of red, green, blue; of blue, green, red.
_TORCHVISION = tuple(
    tuple(255 * part for part in row) for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)
_CAFFE = ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0))


class VGG19(Backbone[VideoSpec]):
    """What VGG19's last pooling says of the frames of each second, averaged over them.

    Weights are a table of tensors `features.N.weight` [out, in, 3, 3] and `features.N.bias`, as in torchvision's
    file; its classifier may be in it. The convention is that of the normalisation, and of it alone, which the weights
    were trained with:

    - `torchvision`: `vgg19-dcbb9e9d.pth`. RGB / 255, minus the mean of ImageNet, divided by its deviation. Its own
      recipe also resizes to 256 and crops 224 from the middle; here the whole of a frame is scaled to 224 x 224.
    - `caffe`: the weights that Keras gives out (`read_keras_vgg`), or the same converted to that table, with the input
      channels left in the order blue, green, red. BGR minus (103.939, 116.779, 123.68). The published features of AVE,
      and those made like them, are of this kind.

    The two differ; features of one are no input for a model of the other.
    """

    def __init__(
        self, weights: Weights, convention: Convention = "torchvision", frames: int = FRAMES_PER_SEGMENT
    ) -> None:
        """Raises TrainingError: `weights` are not those of VGG19."""
        super().__init__()
        self.spec = VideoSpec(
            backbone=f"vgg19-{convention}",
            frames_per_segment=frames,
            height=_SIDE,
            width=_SIDE,
            grid=_GRID,
            feature_dim=_CHANNELS,
        )
        with torch.device("meta"):
            self.features = nn.Sequential(*vgg_blocks(3, BLOCKS))
        weights.fill(nn.ModuleDict({"features": self.features}), "VGG19 as torchvision names it", _CLASSIFIER)
        self.caffe = convention == "caffe"
        self.offset: Tensor
        self.scale: Tensor
        offset, scale = _CAFFE if self.caffe else _TORCHVISION
        self.register_buffer("offset", torch.tensor(offset)[:, None, None])
        self.register_buffer("scale", torch.tensor(scale)[:, None, None])
        self.requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, K, H, W, 3] u8 RGB -> [B, T, H / 32, W / 32, 512] f32, non-negative.

        Segments do not see each other.
        """
        batch, time, count, height, width, _ = frames.shape
        pictures = frames.reshape(-1, height, width, 3).permute(0, 3, 1, 2).to(torch.float32)
        if self.caffe:
            pictures = pictures.flip(1)
        maps: Tensor = self.features((pictures - self.offset) / self.scale)
        maps = maps.reshape(batch * time, count, *maps.shape[1:]).mean(dim=1)
        return maps.permute(0, 2, 3, 1).reshape(batch, time, height // 32, width // 32, _CHANNELS)
