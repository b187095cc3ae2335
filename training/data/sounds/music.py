"""Instruments: bell, drum, guitar, flute and piano."""

from __future__ import annotations

import numpy as np

from training.data.events import Floats
from training.data.sounds.synthesis import (
    Voice,
    band,
    beats,
    bump,
    hill,
    partials_sum,
    scatter,
    shaped_noise,
    tone,
)

BELL_PARTIALS = np.array([0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166])
"""Hum, prime, tierce, quint, nominal and the upper partials of a minor-third church bell."""
BELL_GAINS = [0.5, 0.8, 0.9, 0.35, 1.0, 0.45, 0.5, 0.4, 0.35]
MEMBRANE_MODES = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156])
"""Zeros of the Bessel functions over the first: the modes of an ideal drum head."""
PENTATONIC = (0, 2, 4, 7, 9, 12, 14, 16)


def note(root: float, degree: int) -> float:
    """Pitch in Hz of a degree of the pentatonic scale above `root`."""
    return float(root * 2.0 ** (PENTATONIC[degree % len(PENTATONIC)] / 12))


def bell(voice: Voice) -> Floats:
    """A church bell tolled about once a second: inharmonic partials, the hum outliving the rest."""
    nominal = voice.uniform(430, 700)
    toll = partials_sum(
        nominal * BELL_PARTIALS, BELL_GAINS, 1.8 / np.sqrt(BELL_PARTIALS), min(3.0, voice.seconds), voice
    )
    return scatter(
        voice,
        [
            (t, np.float32(voice.uniform(0.8, 1.0)) * toll)
            for t in beats(voice, voice.uniform(0.9, 1.3), 0.02)
        ],
    )


def drum(voice: Voice) -> Floats:
    """A low tom in a steady beat of strong and weak strokes, with the snap of the sticks."""
    pitch = voice.uniform(85, 140)
    boom = partials_sum(
        pitch * MEMBRANE_MODES, 1.0 / np.arange(1, 8) ** 0.7, 0.16 / np.arange(1, 8) ** 0.6, 0.5, voice
    )
    time = voice.times(0.06)
    snap = band(voice.noise(time.size), 500, 1800, voice.rate) * np.exp(-time / 0.008)
    boom[: snap.size] += 0.8 * snap
    accents = (1.0, 0.55, 0.75, 0.55)
    onsets = beats(voice, voice.uniform(3.2, 5.0), 0.03)
    return scatter(voice, [(onset, np.float32(accents[k % 4]) * boom) for k, onset in enumerate(onsets)])


def plucked(pitch: float, seconds: float, voice: Voice) -> Floats:
    """A steel string: harmonics shaped by where it was plucked, the high ones dying first."""
    k = np.arange(1, 21)
    position = voice.uniform(0.12, 0.22)
    gains = np.abs(np.sin(np.pi * k * position)) / k**0.45
    return partials_sum(pitch * k * (1 + 2e-5 * k**2), gains, 1.1 / (1 + 0.12 * k), seconds, voice)


def guitar(voice: Voice) -> Floats:
    """Strummed chords: four strings, one just after the other."""
    root = voice.uniform(140, 200)
    strings = [plucked(root * ratio, 1.0, voice) for ratio in (1.0, 1.498, 2.0, 2.52)]
    grains = []
    for onset in beats(voice, voice.uniform(2.4, 3.6), 0.04):
        stagger = voice.uniform(0.012, 0.03)
        order = strings if voice.random.random() < 0.6 else strings[::-1]
        grains += [(onset + stagger * k, string) for k, string in enumerate(order)]
    return scatter(voice, grains)


def flute(voice: Voice) -> Floats:
    """A breathy melody: few harmonics, vibrato, and air around the note."""
    root = voice.uniform(620, 880)
    grains = []
    onset = 0.0
    while onset < voice.seconds:
        seconds = voice.uniform(0.35, 0.8)
        time = voice.times(seconds)
        pitch = note(root, int(voice.random.integers(6)))
        vibrato = 1.0 + 0.008 * np.sin(2 * np.pi * voice.uniform(4.5, 6.0) * time)
        sound = tone(pitch * vibrato, [1.0, 0.22, 0.06], time.size, voice.rate)
        envelope = hill(time, 0.06, seconds) ** np.float32(0.4)
        grains.append((onset, sound * envelope))
        onset += seconds
    return scatter(voice, grains) + 0.12 * shaped_noise(voice, lambda f: bump(f, 1.5 * root, 0.8))


def piano(voice: Voice) -> Floats:
    """Single notes and thirds: stretched partials, two-stage decay, the thump of the hammer."""
    root = voice.uniform(200, 300)
    k = np.arange(1, 10)
    time = voice.times(0.9)
    hammer = band(voice.noise(time.size), 100, 350, voice.rate) * np.exp(-time / 0.012)
    keys = [
        partials_sum(
            note(root, degree) * k * np.sqrt(1 + 4e-4 * k**2), 1.0 / k**1.4, 0.45 / k**0.5, 0.9, voice
        )
        * (0.35 + 0.65 * np.exp(-time / 0.12)).astype(np.float32)
        + np.asarray(0.5 * hammer, dtype=np.float32)
        for degree in range(6)
    ]
    grains = []
    for onset in beats(voice, voice.uniform(3.5, 5.0), 0.03):
        degree = int(voice.random.integers(6))
        grains.append((onset, keys[degree]))
        if voice.random.random() < 0.3:
            grains.append((onset, 0.8 * keys[(degree + 2) % 6]))
    return scatter(voice, grains)
