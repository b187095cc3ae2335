"""Backbones that need no weights: log-mel statistics, oriented-gradient grids, hashed words.

B batch, T segments, K frames a segment, H x W pixels, G grid cells a side, C channels, S samples, L tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as PieceTokenizer
from torch import Tensor
from torch.nn import functional as F

from tessera.bundle import AudioSpec, TextSpec, VideoSpec
from training.backbones.backbone import Backbone
from training.backbones.logmel import MEL_BANDS, SAMPLE_RATE, LogMel

NAME = "classic"


class ClassicAudio(Backbone[AudioSpec]):
    """Statistics of the log-mel frames of each second: mean (64), deviation (32) and mean change (32).

    Deviation and change are averaged over pairs of bands.
    """

    spec = AudioSpec(backbone=NAME, sample_rate=SAMPLE_RATE, feature_dim=2 * MEL_BANDS)

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel()

    def forward(self, waveform: Tensor) -> Tensor:
        """[B, T * 16000] f32 in [-1, 1] -> [B, T, 128] f32. Seconds do not see each other."""
        seconds = waveform.reshape(-1, SAMPLE_RATE)
        # -4.6 is silence and +2 is loud: this brings the values to about one.
        frames_XNM = (self.log_mel(seconds) + 2.0) / 2.0
        mean_XM = frames_XNM.mean(dim=1)
        deviation_XM = (frames_XNM - mean_XM.unsqueeze(1)).square().mean(dim=1).sqrt()
        change_XM = (frames_XNM[:, 1:] - frames_XNM[:, :-1]).abs().mean(dim=1)
        features = torch.cat([mean_XM, 2 * _pairs(deviation_XM), 4 * _pairs(change_XM)], dim=1)
        return features.reshape(waveform.shape[0], -1, 2 * MEL_BANDS)


def _pairs(bands_XM: Tensor) -> Tensor:
    return bands_XM.reshape(-1, MEL_BANDS // 2, 2).mean(dim=2)


class ClassicVideo(Backbone[VideoSpec]):
    """What moves where: gradient orientation at two scales, colour, brightness and motion direction per cell.

    Channels: 8 + 8 orientation energies (fine, coarse), 8 hues, 4 brightness bins, 3 mean and 3 deviation of
    colour, 8 motion directions, brightening, darkening, 3 changes of colour between frames, 1 edge energy: 48.
    """

    orientations = 8
    spec = VideoSpec(backbone=NAME, frames_per_segment=4, height=112, width=112, grid=7, feature_dim=48)

    def __init__(self) -> None:
        super().__init__()
        angle = torch.arange(self.orientations) * (2 * math.pi / self.orientations)
        self.directions: Tensor
        self.brightness_centres: Tensor
        self.register_buffer("directions", torch.stack([angle.cos(), angle.sin()])[:, :, None, None])
        self.register_buffer("brightness_centres", torch.linspace(0.125, 0.875, 4)[:, None, None])

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, K, H, W, 3] u8 -> [B, T, 7, 7, 48] f32, non-negative. Segments do not see each other."""
        batch, time, count, height, width, _ = frames.shape
        rgb = frames.reshape(-1, height, width, 3).permute(0, 3, 1, 2).to(torch.float32) / 255.0
        still = torch.cat([*self._edges(rgb), *self._colours(rgb)], dim=1)
        still = still.reshape(batch * time, count, -1, 7, 7)
        moving = self._motion(rgb.reshape(-1, count, 3, height, width))
        colour_means = still[:, :, -6:-3]
        flicker = (colour_means[:, 1:] - colour_means[:, :-1]).abs().mean(dim=1)
        cells = torch.cat([still.mean(dim=1), moving, flicker], dim=1)
        # The root brings faint and strong cells closer, as Hellinger distance does.
        return (2 * cells.clamp(min=0).sqrt()).permute(0, 2, 3, 1).reshape(batch, time, 7, 7, -1)

    def _edges(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        luma = _luma(rgb)
        gx, gy = _gradient(luma)
        coarse_x, coarse_y = _gradient(F.avg_pool2d(luma, 4))
        energy = torch.sqrt(gx.square() + gy.square())
        return self._oriented(gx, gy), self._oriented(coarse_x, coarse_y), _cells(energy)

    def _oriented(self, gx: Tensor, gy: Tensor) -> Tensor:
        """Unsigned orientation energy: |g| max(0, cos 2(phi - theta)), without an arctangent."""
        magnitude = torch.sqrt(gx.square() + gy.square() + 1e-6)
        double_x, double_y = (gx.square() - gy.square()) / magnitude, 2 * gx * gy / magnitude
        return _cells(self._project(double_x, double_y))

    def _colours(self, rgb: Tensor) -> tuple[Tensor, ...]:
        red, green, blue = rgb.chunk(3, dim=1)
        hue = self._project(red - green, (red + green) / 2 - blue)
        brightness = F.relu(1 - 4 * (_luma(rgb) - self.brightness_centres).abs())
        mean = _cells(rgb)
        deviation = (_cells(rgb.square()) - mean.square()).clamp(min=0).sqrt()
        return _cells(hue), _cells(brightness), mean, deviation

    def _motion(self, rgb: Tensor) -> Tensor:
        """Normal flow: how brightness changes along its gradient, by direction; and its sign."""
        segments, count, _, height, width = rgb.shape
        luma = _luma(rgb.reshape(-1, 3, height, width))
        gx, gy = _gradient(luma)
        luma, gx, gy = (x.reshape(segments, count, 1, height, width) for x in (luma, gx, gy))
        change = luma[:, 1:] - luma[:, :-1]
        gx, gy = (x[:, 1:] + x[:, :-1] for x in (gx, gy))
        scale = -change / torch.sqrt(gx.square() + gy.square() + 1e-3)
        flow = self._project(*((scale * g).reshape(-1, 1, height, width) for g in (gx, gy)))
        change = change.reshape(-1, 1, height, width)
        cells = _cells(torch.cat([flow, F.relu(change), F.relu(-change)], dim=1))
        return cells.reshape(segments, count - 1, -1, 7, 7).mean(dim=1)

    def _project(self, x: Tensor, y: Tensor) -> Tensor:
        """The positive part of the vectors (x, y) along each of the directions, one channel a direction."""
        return F.relu(x * self.directions[0] + y * self.directions[1])


def _luma(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.chunk(3, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _gradient(plane: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(plane, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]


def _cells(planes: Tensor) -> Tensor:
    """Means over the 7 x 7 grid."""
    return F.avg_pool2d(planes, planes.shape[-1] // 7)


class ClassicText(Backbone[TextSpec]):
    """Hashed word vectors: each piece is the normed sum of random vectors of its letter trigrams and of itself.

    Related spellings ("bark", "barking") are near each other; nothing is learned.
    """

    def __init__(self, pieces: Sequence[str], feature_dim: int = 128) -> None:
        super().__init__()
        self.spec = TextSpec(backbone=NAME, feature_dim=feature_dim)
        table = np.stack([_piece_vector(piece, feature_dim) for piece in pieces])
        self.table: Tensor
        self.register_buffer("table", torch.tensor(table, dtype=torch.float32))

    @classmethod
    def of_tokenizer(cls, tokenizer_json: str) -> Self:
        """For the pieces of a tokeniser."""
        vocabulary = PieceTokenizer.from_str(tokenizer_json).get_vocab()
        return cls(sorted(vocabulary, key=vocabulary.__getitem__))

    def forward(self, input_ids: Tensor, slots: Tensor) -> Tensor:
        """ids i64 [B, L] and slots f32 [B, T, L] -> [B, T, feature_dim]; a slot is the mean of its pieces."""
        return slots @ F.embedding(input_ids, self.table)


def _piece_vector(piece: str, dim: int) -> NDArray[np.float64]:
    letters = f"<{piece.removeprefix('##')}>"
    trigrams = [letters[i : i + 3] for i in range(len(letters) - 2)]
    total = np.sum([_hashed(part, dim) for part in [letters, *trigrams]], axis=0)
    vector: NDArray[np.float64] = total * (math.sqrt(dim) / np.linalg.norm(total))
    return vector


def _hashed(text: str, dim: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(dim)
