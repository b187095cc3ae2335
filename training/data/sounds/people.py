"""Sounds of people about the house: steps, knocks, laughter, typing and broken glass."""

from __future__ import annotations

import numpy as np

from training.data.events import Floats
from training.data.sounds.synthesis import Voice, band, beats, hill, partials_sum, resonate, scatter, tone


def footsteps(voice: Voice) -> Floats:
    """Walking: a dull heel thud, then a scrape of the sole, left and right unlike."""
    floor, scrape = voice.uniform(70, 120), voice.uniform(350, 600)
    feet = []
    for _ in range(2):
        time = voice.times(0.22)
        thud = band(voice.noise(time.size), floor, 2.2 * floor, voice.rate) * np.exp(-time / 0.03)
        delayed = np.clip(time - 0.06, 0.0, None)
        sole = band(voice.noise(time.size), scrape, 2.5 * scrape, voice.rate) * hill(delayed, 0.04, 0.16)
        feet.append(np.asarray(4.0 * thud + 0.35 * sole, dtype=np.float32))
    onsets = beats(voice, voice.uniform(1.7, 2.6), 0.04)
    return scatter(voice, [(onset, feet[step % 2]) for step, onset in enumerate(onsets)])


def knock(voice: Voice) -> Floats:
    """Knuckles on a wooden door: quick groups of three to five woody raps."""
    board = voice.uniform(320, 520)
    time = voice.times(0.09)
    rap = partials_sum(
        board * np.array([1.0, 1.62, 2.35, 3.4]),
        [1.0, 0.7, 0.45, 0.25],
        [0.022, 0.016, 0.012, 0.008],
        0.09,
        voice,
    )
    click = band(voice.noise(time.size), 900, 2400, voice.rate) * np.exp(-time / 0.003)
    pace, count = voice.uniform(6.0, 8.0), int(voice.random.integers(3, 6))
    grains = []
    for group in beats(voice, 1.0 / (count / pace + voice.uniform(0.25, 0.4)), 0.02):
        for k in range(count):
            strength = np.float32(voice.uniform(0.75, 1.0))
            grains.append((group + k / pace, strength * (rap + 0.4 * click)))
    return scatter(voice, grains)


def laughter(voice: Voice) -> Floats:
    """Ha-ha-ha: voiced bursts on a falling pitch, each after a breath of noise."""
    pitch, vowel = voice.uniform(190, 320), voice.uniform(680, 880)
    partials = [1.0 / k for k in range(1, 26)]
    pace, per_breath = voice.uniform(4.5, 6.0), int(voice.random.integers(5, 8))
    grains = []
    for k, onset in enumerate(beats(voice, pace, 0.06)):
        seconds = 0.72 / pace
        time = voice.times(seconds)
        fall = 1.25 - 0.4 * (k % per_breath) / per_breath
        voiced = tone(pitch * fall * (1.05 - 0.2 * time / seconds), partials, time.size, voice.rate)
        breath = voice.noise(time.size) * np.exp(-time / 0.03)
        source = voiced * hill(time, 0.05, seconds) + 0.35 * breath
        formants = [(vowel, 6.0, 1.0), (1.6 * vowel, 8.0, 0.7), (2600.0, 9.0, 0.35)]
        ha = sum(
            (gain * resonate(source, centre, q, voice.rate) for centre, q, gain in formants), 0.05 * source
        )
        grains.append((onset, np.asarray(ha, dtype=np.float32)))
    return scatter(voice, grains)


def typing(voice: Voice) -> Floats:
    """Keys of a computer: irregular pairs of clicks, pressed and released."""
    tint = voice.uniform(1500, 2200)
    keys = []
    for _ in range(5):
        time = voice.times(0.04)
        click = band(voice.noise(time.size), tint, 2.6 * tint, voice.rate) * np.exp(-time / 0.004)
        thock = band(voice.noise(time.size), 220, 500, voice.rate) * np.exp(-time / 0.009)
        keys.append(np.asarray(voice.uniform(0.7, 1.1) * click + 0.9 * thock, dtype=np.float32))
    grains = []
    for onset in beats(voice, voice.uniform(7.0, 10.5), 0.45):
        key = keys[int(voice.random.integers(5))]
        grains += [(onset, key), (onset + voice.uniform(0.04, 0.07), 0.4 * key)]
    return scatter(voice, grains)


def glass(voice: Voice) -> Floats:
    """Panes breaking: a burst above 2 kHz, then a rain of ringing shards."""
    shards = [
        partials_sum(
            voice.random.uniform(2800, 7600, 5),
            voice.random.uniform(0.3, 1.0, 5),
            voice.uniform(0.06, 0.16),
            0.4,
            voice,
        )
        for _ in range(6)
    ]
    grains = []
    for onset in beats(voice, voice.uniform(1.1, 1.5), 0.1):
        time = voice.times(0.15)
        burst = band(voice.noise(time.size), 2200, 7600, voice.rate) * np.exp(-time / 0.03)
        grains.append((onset, np.asarray(3.0 * burst, dtype=np.float32)))
        for delay in voice.random.exponential(0.25, 11):
            strength = np.float32(voice.uniform(0.5, 1.3) * np.exp(-1.5 * delay))
            grains.append((onset + float(delay), strength * shards[int(voice.random.integers(6))]))
    return scatter(voice, grains)
