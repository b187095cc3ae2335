"""Animal voices: bird, dog, cat, frog and cricket."""

from __future__ import annotations

import numpy as np

from training.data.events import Floats
from training.data.sounds.synthesis import Voice, beats, hill, resonate, scatter, tone


def bird(voice: Voice) -> Floats:
    """Song of short whistles, each sweeping up or down between 2.5 and 6 kHz."""
    pitch = voice.uniform(2600, 4200)
    syllables = []
    for shape in voice.random.uniform(-1, 1, 4):
        seconds = voice.uniform(0.07, 0.16)
        time = voice.times(seconds)
        sweep = 2.0 ** (0.45 * float(shape) * time / seconds)
        trill = 1.0 + 0.03 * np.sin(2 * np.pi * voice.uniform(25, 45) * time)
        syllables.append(
            tone(pitch * sweep * trill, [1.0, 0.08], time.size, voice.rate) * hill(time, 0.012, seconds)
        )
    onsets = beats(voice, voice.uniform(3.5, 6.0), 0.15)
    return scatter(voice, [(onset, syllables[int(voice.random.integers(4))]) for onset in onsets])


def dog(voice: Voice) -> Floats:
    """Barks: a growling harmonic burst that rises, falls and stops."""
    pitch, mouth = voice.uniform(260, 480), voice.uniform(750, 1150)
    partials = [1.0 / k**0.6 for k in range(1, 24)]
    grains = []
    for onset in beats(voice, voice.uniform(1.8, 3.0), 0.12):
        seconds = voice.uniform(0.13, 0.2)
        time = voice.times(seconds)
        glide = pitch * voice.uniform(0.92, 1.08) * (0.75 + 0.5 * np.sin(np.pi * time / seconds))
        source = tone(glide, partials, time.size, voice.rate) + 0.5 * voice.noise(time.size)
        bark = resonate(source, mouth, 2.0, voice.rate) + 0.15 * source
        grains.append((onset, bark * hill(time, 0.015, seconds)))
    return scatter(voice, grains)


def cat(voice: Voice) -> Floats:
    """Meows: a long voiced arc while the mouth opens and closes over its formant."""
    pitch = voice.uniform(430, 600)
    partials = [1.0 / k**0.4 for k in range(1, 18)]
    grains = []
    for onset in beats(voice, voice.uniform(1.05, 1.4), 0.06):
        seconds = voice.uniform(0.62, 0.78)
        time = voice.times(seconds)
        arc = np.sin(np.pi * np.minimum(time / seconds, 1.0) ** 0.7)
        source = tone(pitch * (0.8 + 0.3 * arc), partials, time.size, voice.rate)
        closed, open_ = (resonate(source, centre, 4.0, voice.rate) for centre in (1050.0, 2400.0))
        grains.append((onset, ((1 - arc) * closed + arc * open_) * hill(time, 0.08, seconds)))
    return scatter(voice, grains)


def frog(voice: Voice) -> Floats:
    """Croaks: a slow train of pulses ringing in a wide throat."""
    pulses, throat = voice.uniform(38, 62), voice.uniform(520, 780)
    grains = []
    for onset in beats(voice, voice.uniform(1.8, 2.6), 0.08):
        seconds = voice.uniform(0.24, 0.34)
        time = voice.times(seconds)
        train = tone(pulses * (1.0 + 0.5 * time / seconds), [1.0] * 60, time.size, voice.rate)
        croak = resonate(train, throat, 6.0, voice.rate) + 0.6 * resonate(
            train, 2.9 * throat, 8.0, voice.rate
        )
        grains.append((onset, croak * hill(time, 0.05, seconds)))
    return scatter(voice, grains)


def cricket(voice: Voice) -> Floats:
    """Stridulation: a pure carrier near 5 kHz, cut into fast pulses in groups of three or four."""
    carrier = voice.uniform(4300, 5600)
    pulse_rate, count = voice.uniform(24, 34), int(voice.random.integers(3, 5))
    time = voice.times(count / pulse_rate)
    comb = np.square(np.sin(np.pi * pulse_rate * time, dtype=np.float32))
    chirp = np.sin(np.float32(2 * np.pi * carrier) * time) * comb
    return scatter(voice, [(onset, chirp) for onset in beats(voice, voice.uniform(3.0, 4.5), 0.03)])
