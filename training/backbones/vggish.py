"""VGGish, with the tensor names of its torch port (Hershey et al., CNN Architectures for Large-Scale Audio, 2017).

B batch, T segments (seconds), X segments of all clips, N log-mel frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from tessera.bundle import AudioSpec
from tessera.errors import TrainingError
from training.backbones.backbone import Backbone
from training.backbones.convolutions import vgg_blocks
from training.backbones.logmel import MEL_BANDS, SAMPLE_RATE, LogMel
from training.backbones.weights import Weights

Rounding = Literal["truncate", "round"]

FEATURE_DIM = 128
PATCH_FRAMES = 96
_BLOCKS = ((64, 1), (128, 1), (256, 2), (512, 2))
_HIDDEN = 4096

# A file of the whole port also holds the PCA, by the names of its modules; the file of the PCA alone by other ones.
_PCA_NAMES = (("pca_eigen_vectors", "pca_means"), ("pproc.pca_matrix", "pproc.pca_means"))
_INSIDE = frozenset(_PCA_NAMES[1])


class Pca(nn.Module):
    """The step that AudioSet's published features went through: whitening PCA, then 8 bits.

    y = P (x - mean), clipped to +-2, (y + 2) * 255 / 4. `truncate` drops what lies behind the point, as
    TensorFlow's code does; `round` goes to the nearest, as the torch port does.
    """

    def __init__(self, weights: Weights, rounding: Rounding = "truncate") -> None:
        """Raises TrainingError: `weights` hold no PCA of 128 channels."""
        super().__init__()
        self.rounding: Rounding = rounding
        matrix, means = _pca_of(weights)
        self.matrix: Tensor
        self.means: Tensor
        self.register_buffer("matrix", matrix)
        self.register_buffer("means", means)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[..., 128] -> [..., 128], whole numbers in 0..255 as float32."""
        whitened = (embeddings - self.means) @ self.matrix.T
        scaled = (whitened.clamp(-2.0, 2.0) + 2.0) * (255.0 / 4.0)
        return scaled.floor() if self.rounding == "truncate" else scaled.round()


def _pca_of(weights: Weights) -> tuple[Tensor, Tensor]:
    for matrix_name, means_name in _PCA_NAMES:
        if matrix_name in weights.tensors:
            matrix = weights.require_shape(matrix_name, (FEATURE_DIM, FEATURE_DIM))
            means = weights.tensors.get(means_name)
            if means is None or means.numel() != FEATURE_DIM:
                raise TrainingError(f"'{weights.source}' has no '{means_name}' of {FEATURE_DIM} numbers")
            return matrix.to(torch.float32), means.to(torch.float32).reshape(FEATURE_DIM)
    names = " nor ".join(f"'{matrix_name}'" for matrix_name, _ in _PCA_NAMES)
    raise TrainingError(f"'{weights.source}' holds no PCA: neither {names} is in it")


class VGGish(Backbone[AudioSpec]):
    """One vector for each second of sound.

    The first 0.96 s of a second make the one patch of 96 log-mel frames that the network sees. (0.96 s of sound by
    itself would make none: its last window would be incomplete.)

    `relu` keeps the last activation, as the torch port and TensorFlow's code until 2020 do (the published features
    of AVE are of that time); without it, vectors are those of TensorFlow's code since.
    """

    def __init__(self, weights: Weights, relu: bool = True, pca: Pca | None = None) -> None:
        """Raises TrainingError: `weights` are not those of VGGish."""
        super().__init__()
        kind = ("" if relu else "-no-relu") + (f"-pca-{pca.rounding}" if pca else "")
        self.spec = AudioSpec(backbone=f"vggish{kind}", sample_rate=SAMPLE_RATE, feature_dim=FEATURE_DIM)
        self.log_mel = LogMel(torch.float64)
        with torch.device("meta"):
            self.features = nn.Sequential(*vgg_blocks(1, _BLOCKS))
            self.embeddings = nn.Sequential(*_embeddings(relu))
        network = nn.ModuleDict({"features": self.features, "embeddings": self.embeddings})
        weights.fill(network, "VGGish as its torch port names it", _INSIDE)
        self.pca = pca
        self.requires_grad_(False)

    def patches(self, waveform: Tensor) -> Tensor:
        """[B, T * 16000] in [-1, 1] at 16 kHz -> log-mel patches [B * T, 96, 64]."""
        frames_XNM: Tensor = self.log_mel(waveform.reshape(-1, SAMPLE_RATE))
        return frames_XNM[:, :PATCH_FRAMES]

    def forward(self, waveform: Tensor) -> Tensor:
        """[B, T * 16000] f32 in [-1, 1] at 16 kHz -> [B, T, 128] f32. Seconds do not see each other."""
        maps_XCNM = self.features(self.patches(waveform).unsqueeze(1))
        # The weights come from a network that keeps channels last.
        features: Tensor = self.embeddings(maps_XCNM.permute(0, 2, 3, 1).flatten(start_dim=1))
        if self.pca is not None:
            features = self.pca(features)
        return features.reshape(waveform.shape[0], -1, FEATURE_DIM)


def _embeddings(relu: bool) -> Iterator[nn.Module]:
    shrink = 2 ** len(_BLOCKS)
    flat = _BLOCKS[-1][0] * (PATCH_FRAMES // shrink) * (MEL_BANDS // shrink)
    yield from (nn.Linear(flat, _HIDDEN), nn.ReLU(inplace=True))
    yield from (nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(inplace=True))
    yield nn.Linear(_HIDDEN, FEATURE_DIM)
    if relu:
        yield nn.ReLU(inplace=True)
