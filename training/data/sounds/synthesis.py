"""The building blocks of sound: oscillators, noises, resonances and grains. All samples are float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, signal

from training.data.events import Array, Floats

TABLE_SIZE = 2048


@dataclass(frozen=True)
class Voice:
    """What a sound is rendered with: its own random numbers, a sample rate in Hz and a length in samples."""

    random: np.random.Generator
    rate: int
    length: int

    @property
    def seconds(self) -> float:
        return self.length / self.rate

    @property
    def time(self) -> Floats:
        """Seconds since the start, [length]."""
        return self.times(self.seconds)

    def times(self, seconds: float) -> Floats:
        """Seconds since the start of a grain that lasts `seconds`."""
        return np.arange(round(seconds * self.rate), dtype=np.float32) / np.float32(self.rate)

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def noise(self, samples: int) -> Floats:
        """White Gaussian noise of unit power."""
        return self.random.standard_normal(samples, dtype=np.float32)


def tone(frequency: ArrayLike, partials: Sequence[float], samples: int, rate: int) -> Floats:
    """A harmonic tone; `frequency` in Hz is one number or one per sample.

    Partials above the Nyquist frequency of the highest pitch are left out, so nothing aliases.
    """
    hertz = np.asarray(frequency, dtype=np.float64)
    audible = int(0.5 * rate / max(float(hertz.max(initial=1.0)), 1.0))
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex128)
    kept = np.asarray(partials[: min(audible, len(partials))], dtype=np.float64)
    spectrum[1 : 1 + kept.size] = -0.5j * TABLE_SIZE * kept
    table = fft.irfft(spectrum, TABLE_SIZE).astype(np.float32)
    cycles = np.cumsum(hertz) if hertz.ndim else np.arange(1, samples + 1) * hertz
    position = (cycles * (TABLE_SIZE / rate)).astype(np.int64)
    found: Floats = table[position & (TABLE_SIZE - 1)]
    return found


def partials_sum(
    frequencies: ArrayLike, gains: ArrayLike, decays: ArrayLike, seconds: float, voice: Voice
) -> Floats:
    """Sum of exponentially decaying sines, for bells, bars, membranes and strings. Hz, linear, seconds."""
    hertz = np.asarray(frequencies, dtype=np.float32)
    audible = hertz < 0.48 * voice.rate
    time = voice.times(seconds)
    total = np.zeros_like(time)
    gains_, decays_ = (np.broadcast_to(np.asarray(x, np.float32), hertz.shape) for x in (gains, decays))
    for f, gain, decay in zip(hertz[audible], gains_[audible], decays_[audible], strict=True):
        total += gain * np.exp(-time / decay) * np.sin(np.float32(2 * np.pi) * f * time)
    return total


def band(samples: Floats, low: float, high: float, rate: int, order: int = 2) -> Floats:
    """Band-pass between two frequencies in Hz (Butterworth)."""
    top = min(high, 0.48 * rate)
    sections = signal.butter(order, [min(low, 0.9 * top), top], "bandpass", fs=rate, output="sos")
    return np.asarray(signal.sosfilt(sections.astype(np.float32), samples), dtype=np.float32)


def resonate(samples: Floats, centre: float, quality: float, rate: int) -> Floats:
    """One resonance (a formant, a wooden board) at `centre` Hz with unit gain at its peak."""
    b, a = signal.iirpeak(min(centre, 0.45 * rate), quality, fs=rate)
    return np.asarray(signal.lfilter(b.astype(np.float32), a.astype(np.float32), samples), dtype=np.float32)


def shaped_noise(
    voice: Voice, gain: Callable[[NDArray[np.float64]], NDArray[np.float64]], samples: int | None = None
) -> Floats:
    """Stationary noise of unit power whose amplitude spectrum is `gain` of the frequency in Hz."""
    length = voice.length if samples is None else samples
    size = int(fft.next_fast_len(length, real=True))
    white = voice.random.standard_normal((size // 2 + 1, 2), dtype=np.float32).view(np.complex64)[:, 0]
    shape = gain(np.maximum(fft.rfftfreq(size, 1 / voice.rate), 1.0)).astype(np.float32)
    shape[0] = 0.0
    coloured: Floats = fft.irfft(white * shape, size)[:length].astype(np.float32, copy=False)
    return unit_power(coloured)


def bump(hertz: NDArray[np.float64], centre: float, octaves: float) -> NDArray[np.float64]:
    """A spectral hill, Gaussian on a log-frequency axis."""
    hill: NDArray[np.float64] = np.exp(-0.5 * (np.log2(hertz / centre) / octaves) ** 2)
    return hill


def unit_power(samples: Floats) -> Floats:
    """Scale to a root mean square of one; silence stays silent."""
    power = float(np.sqrt(np.mean(np.square(samples)))) if samples.size else 0.0
    return samples / np.float32(power) if power > 0 else samples


def hill(time: Floats, attack: float, seconds: float) -> Floats:
    """A smooth rise over `attack` seconds and a cosine fall to zero at `seconds`."""
    rise = np.minimum(time / np.float32(attack), 1.0)
    fall = np.clip((time - attack) / (seconds - attack), 0.0, 1.0)
    return np.asarray(rise * np.cos(0.5 * np.pi * fall), dtype=np.float32)


def beats(voice: Voice, per_second: float, jitter: float = 0.05) -> list[float]:
    """Times of a nearly regular pulse in seconds, the first within one period of the start."""
    period = 1.0 / per_second
    count = int(voice.seconds * per_second) + 1
    wander = voice.random.uniform(-jitter, jitter, count) * period
    start = voice.uniform(0.05, 0.4) * period
    return [max(0.0, start + period * k + float(wander[k])) for k in range(count)]


def scatter(voice: Voice, grains: Sequence[tuple[float, Array]]) -> Floats:
    """Lay grains over silence, each at its time in seconds; what runs past the end is cut."""
    track = np.zeros(voice.length, dtype=np.float32)
    for onset, grain in grains:
        start = round(onset * voice.rate)
        room = voice.length - start
        if room > 0:
            track[start : start + grain.size] += grain[:room]
    return track
