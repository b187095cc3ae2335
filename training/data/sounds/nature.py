"""Sounds of weather, water and fire: shaped noise, and what falls or crackles in it."""

from __future__ import annotations

import numpy as np

from training.data.events import Floats
from training.data.sounds.synthesis import Voice, band, bump, scatter, shaped_noise


def rain(voice: Voice) -> Floats:
    """Hiss above 1 kHz and a dense fall of single drops."""
    brightness = voice.uniform(2500, 4500)
    hiss = shaped_noise(voice, lambda f: bump(f, brightness, 1.3))
    time = voice.times(0.012)
    drops = [np.sin(np.float32(2 * np.pi * f) * time) for f in voice.random.uniform(1500, 6000, 12)]
    fallen = []
    for _ in range(round(voice.uniform(40, 90) * voice.seconds)):
        strength = np.float32(voice.random.exponential(3.0)) * np.exp(-time / 0.002)
        fallen.append((voice.uniform(0, voice.seconds), strength * drops[int(voice.random.integers(12))]))
    return hiss + scatter(voice, fallen)


def wind(voice: Voice) -> Floats:
    """Two narrow low bands of noise that take turns as the gusts come and go."""
    pitch = voice.uniform(260, 420)
    low = shaped_noise(voice, lambda f: bump(f, pitch, 0.28))
    high = shaped_noise(voice, lambda f: bump(f, 1.9 * pitch, 0.22))
    gust = 0.5 + 0.5 * np.sin(
        2 * np.pi * voice.uniform(0.25, 0.6) * voice.time + np.float32(voice.uniform(0, 6.3))
    )
    whistle = np.square(gust)
    return np.asarray((0.45 + 0.55 * gust) * low + 0.7 * whistle * high, dtype=np.float32)


def thunder(voice: Voice) -> Floats:
    """Brown rumble that rolls irregularly, with a crack at each stroke."""
    edge = voice.uniform(70, 130)
    rumble = shaped_noise(voice, lambda f: 1.0 / (1.0 + (f / edge) ** 2))
    roll = shaped_noise(voice, lambda f: 1.0 / (1.0 + (f / 2.5) ** 4))
    strokes = []
    onset = voice.uniform(0.0, 0.3)
    while onset < voice.seconds:
        time = voice.times(0.8)
        crack = band(voice.noise(time.size), 120, voice.uniform(900, 1800), voice.rate)
        strokes.append((onset, 5.0 * crack * np.exp(-time / 0.13).astype(np.float32)))
        onset += voice.uniform(0.7, 1.3)
    rolling: Floats = np.tanh(roll)
    return rumble * (1.0 + 0.5 * rolling) + scatter(voice, strokes)


def sea(voice: Voice) -> Floats:
    """Broad surf: a dull backwash throughout, bright foam on the crest of each wave."""
    wash = shaped_noise(voice, lambda f: bump(f, 450, 1.2))
    foam = shaped_noise(voice, lambda f: bump(f, 2200, 1.1))
    swell = 0.5 - 0.5 * np.cos(
        2 * np.pi * voice.uniform(0.3, 0.5) * voice.time + np.float32(voice.uniform(0, 6.3))
    )
    return np.asarray((0.55 + 0.45 * swell) * wash + 0.15 * foam + 0.75 * swell**2 * foam, dtype=np.float32)


def drip(voice: Voice) -> Floats:
    """Drops into a full bowl: damped bubbles whose pitch rises as they close."""
    pitch = voice.uniform(700, 1200)
    grains = []
    onset = voice.uniform(0.0, 0.25)
    while onset < voice.seconds:
        time = voice.times(0.16)
        hertz = pitch * voice.uniform(0.8, 1.3) * (1.0 + 5.0 * time)
        phase = (2 * np.pi / voice.rate) * np.cumsum(hertz)
        bubble = np.sin(phase.astype(np.float32)) * np.exp(-time / 0.035)
        grains.append((onset, np.float32(voice.uniform(0.6, 1.0)) * bubble))
        onset += voice.uniform(0.22, 0.5)
    return scatter(voice, grains)


def fire(voice: Voice) -> Floats:
    """A low flutter of flames under heavy-tailed crackles."""
    flutter = shaped_noise(voice, lambda f: 1.0 / (1.0 + (f / 180) ** 1.5))
    crackles = []
    for _ in range(round(voice.uniform(14, 28) * voice.seconds)):
        time = voice.times(voice.uniform(0.004, 0.018))
        snap = np.cumsum(voice.noise(time.size), dtype=np.float32) * np.exp(-time / 0.004)
        loudness = min(voice.random.pareto(1.6) + 0.5, 5.0)
        crackles.append((voice.uniform(0, voice.seconds), np.float32(0.7 * loudness) * snap))
    return 0.8 * flutter + scatter(voice, crackles)
