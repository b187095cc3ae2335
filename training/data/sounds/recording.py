"""How the sounds of a clip reach the microphone: room, tone colour, level, background noise and mains hum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from training.data.events import Floats

MAINS_HERTZ = 50.0
MAINS_PARTIALS = np.array([0.6, 0.3, 0.18, 0.12], dtype=np.float32)
"""Amplitude of the hum and its overtones, over two; together they have unit power."""
ROOM_SECONDS = 1.2
DB_PER_FACTOR_TWO = 6.0206


@dataclass(frozen=True, slots=True)
class Recording:
    """The circumstances of one recording. Noise is relative to an event of unit power, slopes per octave."""

    level_db: float
    tilt_db: float
    reverb_seconds: float
    reverb_share: float
    noise_db: float
    noise_slope_db: float
    hum_db: float

    @classmethod
    def from_latents(cls, latents: Sequence[float], strength: float) -> Recording:
        """Map seven standard normal latents to circumstances; at `strength` 0 it is clean and dry."""
        level, tilt, room, wet, noise, slope, hum = np.clip(latents, -2.5, 2.5).tolist()
        faded_db = 20 * float(np.log10(strength)) if strength > 0 else -np.inf
        return cls(
            level_db=-24.0 + 4.0 * strength * level,
            tilt_db=1.2 * strength * tilt,
            reverb_seconds=0.35 * 2.0 ** (0.7 * room),
            reverb_share=min(1.0, 0.3 * strength * 2.0 ** (0.8 * wet)),
            noise_db=-20.0 + 5.0 * noise + faded_db,
            noise_slope_db=-3.0 + 2.5 * slope,
            hum_db=-34.0 + 6.0 * hum + faded_db,
        )


def gain(decibels: float) -> np.float32:
    return np.float32(10.0 ** (decibels / 20.0))


@lru_cache(maxsize=4)
def octaves(size: int, rate: int) -> Floats:
    """Distance of each bin of a real FFT from 1 kHz, in octaves; flat below 40 Hz."""
    hertz = np.maximum(fft.rfftfreq(size, 1 / rate), 40.0)
    distance: Floats = np.log2(hertz / 1000.0).astype(np.float32)
    return distance


def sloped(distance: Floats, db_per_octave: float) -> Floats:
    """Amplitude of a constant slope, one at 1 kHz, for distances in octaves."""
    slope: Floats = np.exp2(distance * np.float32(db_per_octave / DB_PER_FACTOR_TWO))
    return slope


def room_response(recording: Recording, random: np.random.Generator, rate: int) -> Floats:
    """Direct sound of gain one, then exponentially decaying noise 60 dB down after `reverb_seconds`."""
    samples = round(ROOM_SECONDS * rate)
    decay = np.exp(
        np.arange(samples, dtype=np.float32) * np.float32(-6.908 / (recording.reverb_seconds * rate))
    )
    tail = random.standard_normal(samples, dtype=np.float32) * decay
    tail *= np.float32(recording.reverb_share / np.sqrt(np.sum(np.square(tail))))
    tail[0] = 1.0
    return np.asarray(tail, dtype=np.float32)


def mains_bins(size: int, rate: int) -> NDArray[np.intp]:
    """The bins of a real FFT nearest to the mains frequency and its overtones."""
    partials = np.arange(1, MAINS_PARTIALS.size + 1)
    return np.rint(MAINS_HERTZ * partials * size / rate).astype(np.intp)


def record(dry: Floats, recording: Recording, random: np.random.Generator, rate: int) -> Floats:
    """What the microphone hears of `dry` [samples]: same length, float32 within [-1, 1].

    Room and colours are multiplied in one pass through the frequency domain, which is a convolution in time.
    """
    room = room_response(recording, random, rate)
    size = int(fft.next_fast_len(dry.size + room.size, real=True))
    distance = octaves(size, rate)
    noise = random.standard_normal(2 * distance.size, dtype=np.float32)
    spectrum = noise.view(np.complex64) * sloped(distance, recording.noise_slope_db)
    power = np.mean(np.square(spectrum.view(np.float32))) * np.float32(2 / size)
    spectrum *= gain(recording.noise_db) / np.sqrt(power)
    spectrum[mains_bins(size, rate)] += gain(recording.hum_db) * np.float32(size) * MAINS_PARTIALS
    spectrum += fft.rfft(dry, size) * fft.rfft(room, size)
    spectrum *= sloped(distance, recording.tilt_db)
    wet = fft.irfft(spectrum, size)[: dry.size]
    wet *= gain(recording.level_db)
    peak = float(np.max(np.abs(wet), initial=0.0))
    return np.asarray(wet if peak <= 0.99 else wet * np.float32(0.99 / peak), dtype=np.float32)
