"""The log-mel front end of VGGish: 25 ms windows every 10 ms, 64 mel bands, log(mel + 0.01).

B batch, S samples, H hops, N frames, F frequency bins, M mel bands.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SAMPLE_RATE = 16_000
WINDOW = 400
HOP = 160
FFT = 512
MEL_BANDS = 64
MEL_RANGE_HZ = (125.0, 7500.0)
LOG_OFFSET = 0.01


def mel_matrix() -> NDArray[np.float64]:
    """Triangles that are linear in mel (HTK: 1127 ln(1 + f/700)), [FFT // 2 + 1, MEL_BANDS]; the DC bin is zero."""
    bins_mel = _hz_to_mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    lowest, highest = _hz_to_mel(np.asarray(MEL_RANGE_HZ))
    edges = np.linspace(lowest, highest, MEL_BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins_mel - lower) / (centre - lower)
    falling = (upper - bins_mel) / (upper - centre)
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def _hz_to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    mel: NDArray[np.float64] = 1127.0 * np.log1p(hertz / 700.0)
    return mel


def _fourier_kernels(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosines, then sines, of `bins` under a periodic Hann window, [WINDOW, 2 * len(bins)]."""
    sample = np.arange(WINDOW)[:, None]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * sample / WINDOW)
    phase = 2 * np.pi * bins * sample / FFT
    return np.concatenate([np.cos(phase) * hann, np.sin(phase) * hann], axis=1)


class LogMel(nn.Module):
    """Waveform -> log-mel frames; the magnitude (not the power) spectrum, no centre padding.

    The Fourier transform is a product of matrices: ONNX Runtime has no STFT kernel on the GPU, and on a processor this
    is twice as fast. The constants are those of VGGish.

    `dtype` is the precision inside. In float32 a band that is silent beside a loud one is off by up to 1e-4, because
    the logarithm is of what is left where hundreds of terms cancel out; float64 meets the definition to what the
    samples are rounded to.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        weights = mel_matrix()
        used = np.flatnonzero(weights.any(axis=1))
        self.kernels: Tensor
        self.mel: Tensor
        self.register_buffer("kernels", torch.tensor(_fourier_kernels(used), dtype=dtype))
        self.register_buffer("mel", torch.tensor(weights[used], dtype=dtype))

    def forward(self, wave_BS: Tensor) -> Tensor:
        """[batch, hops * 160] in [-1, 1] at 16 kHz -> [batch, hops - 2, 64], of the dtype that came in."""
        parts_BN2F = self._windows(wave_BS.to(self.kernels.dtype)) @ self.kernels
        cosine_BNF, sine_BNF = parts_BN2F.chunk(2, dim=2)
        magnitude_BNF = torch.sqrt(cosine_BNF.square() + sine_BNF.square())
        return torch.log(magnitude_BNF @ self.mel + LOG_OFFSET).to(wave_BS.dtype)

    def _windows(self, wave_BS: Tensor) -> Tensor:
        """The samples of each frame, [batch, hops - 2, 400]: two hops and the half of a third."""
        hops_BH = wave_BS.reshape(wave_BS.shape[0], -1, HOP)
        last = WINDOW - 2 * HOP
        return torch.cat([hops_BH[:, :-2], hops_BH[:, 1:-1], hops_BH[:, 2:, :last]], dim=2)
