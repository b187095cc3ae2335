"""Sounds of machines: siren, engine, telephone, clock, helicopter, train and chainsaw."""

from __future__ import annotations

import numpy as np

from training.data.events import Floats
from training.data.sounds.synthesis import (
    Voice,
    band,
    beats,
    bump,
    partials_sum,
    resonate,
    scatter,
    shaped_noise,
    tone,
)


def siren(voice: Voice) -> Floats:
    """A horn swept up and down over an octave, slowly (wail) or fast (yelp)."""
    low, octaves = voice.uniform(550, 750), voice.uniform(0.9, 1.2)
    rate = voice.uniform(0.5, 0.9) if voice.random.random() < 0.5 else voice.uniform(2.0, 3.5)
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * rate * voice.time + np.float32(voice.uniform(0, 6.3)))
    return tone(low * 2.0 ** (octaves * swing), [1.0, 0.6, 0.45, 0.25, 0.15], voice.length, voice.rate)


def engine(voice: Voice) -> Floats:
    """Idling motor: a low pulse train whose loudness limps once every two strokes."""
    firing = voice.uniform(32, 58)
    drift = 1.0 + 0.06 * np.sin(2 * np.pi * voice.uniform(0.2, 0.5) * voice.time)
    pulses = tone(firing * drift, [1.0 / k**0.7 for k in range(1, 18)], voice.length, voice.rate)
    limp = 1.0 + 0.35 * tone(0.5 * firing * drift, [1.0], voice.length, voice.rate)
    hiss = shaped_noise(voice, lambda f: bump(f, 600, 1.0))
    return np.asarray((pulses + 0.25 * hiss) * limp, dtype=np.float32)


def telephone(voice: Voice) -> Floats:
    """Two bright bells struck in turn 20 times a second, in a cadence of rings and pauses."""
    pitch, interval = voice.uniform(1050, 1450), voice.uniform(1.2, 1.3)
    ring, rest, hammer = voice.uniform(0.4, 0.6), voice.uniform(0.15, 0.25), voice.uniform(18, 24)
    strike = 0.5 + 0.5 * np.sin(np.float32(2 * np.pi * hammer) * voice.time)
    chime = strike * tone(pitch, [1.0, 0.3, 0.5], voice.length, voice.rate)
    chime += (1 - strike) * tone(pitch * interval, [1.0, 0.3, 0.5], voice.length, voice.rate)
    place = (voice.time + np.float32(voice.uniform(0, ring))) % np.float32(ring + rest)
    gate = np.clip((ring - place) / 0.02, 0.02, 1.0)
    return np.asarray(chime * gate, dtype=np.float32)


def clock(voice: Voice) -> Floats:
    """Tick and tock: two resonant clicks in strict alternation."""
    pitch = voice.uniform(2300, 3300)
    clicks = []
    for shift in (1.0, 0.8):
        ring = partials_sum(pitch * shift * np.array([1.0, 1.73, 0.47]), [1.0, 0.5, 0.4], 0.006, 0.05, voice)
        echo = np.concatenate([np.zeros(round(0.012 * voice.rate), np.float32), 0.5 * ring])
        echo[: ring.size] += ring
        clicks.append(echo)
    onsets = beats(voice, voice.uniform(3.0, 5.0), 0.0)
    return scatter(voice, [(onset, clicks[k % 2]) for k, onset in enumerate(onsets)])


def helicopter(voice: Voice) -> Floats:
    """Blades chopping the air 10 to 14 times a second over the whine of a turbine."""
    chop = voice.uniform(10, 14)
    body = shaped_noise(voice, lambda f: bump(f, 150, 1.1))
    phase = (voice.time * np.float32(chop)) % 1.0
    slap = np.exp(-phase * 5.0) * np.minimum(phase * 40.0, 1.0)
    whine = tone(voice.uniform(1500, 2100), [1.0, 0.4], voice.length, voice.rate)
    air = shaped_noise(voice, lambda f: bump(f, 1200, 0.9))
    return np.asarray((body + 0.35 * air) * (0.1 + slap) + 0.07 * whine, dtype=np.float32)


def train(voice: Voice) -> Floats:
    """A horn of four notes sounding together, and wheels over the rail joints."""
    root = voice.uniform(290, 370)
    horn = np.zeros(voice.length, dtype=np.float32)
    for ratio in (1.0, 1.19, 1.335, 1.68):
        horn += tone(root * ratio, [1.0, 0.8, 0.6, 0.45, 0.3, 0.2], voice.length, voice.rate)
    pause = voice.uniform(1.6, 2.4)
    phase = (voice.time / np.float32(pause) + np.float32(voice.random.random())) % 1.0
    blast = 0.35 + 0.65 * np.clip(np.sin(2 * np.pi * phase) * 4.0 + 2.5, 0.0, 1.0)
    joints = []
    for onset in beats(voice, voice.uniform(1.6, 2.4), 0.02):
        time = voice.times(0.1)
        clack = band(voice.noise(time.size), 150, 900, voice.rate) * np.exp(-time / 0.025)
        joints += [(onset, 4.0 * clack), (onset + 0.13, 3.0 * clack)]
    return np.asarray(0.35 * horn * blast, dtype=np.float32) + scatter(voice, joints)


def chainsaw(voice: Voice) -> Floats:
    """A two-stroke under load: a bright rough buzz whose revolutions rise and fall."""
    idle = voice.uniform(95, 140)
    wave = np.sin(2 * np.pi * voice.uniform(0.4, 0.9) * voice.time + np.float32(voice.uniform(0, 6.3)))
    rough = 1.0 + 0.015 * shaped_noise(voice, lambda f: bump(f, 15, 0.8))
    throttle = idle * (1.25 + 0.25 * np.tanh(3 * wave)) * rough
    buzz = tone(throttle, [1.0 / k**0.25 for k in range(1, 45)], voice.length, voice.rate)
    teeth = shaped_noise(voice, lambda f: bump(f, 3500, 0.8))
    gnaw = 0.6 + 0.4 * tone(throttle, [1.0], voice.length, voice.rate)
    sound = resonate(buzz, voice.uniform(1900, 2800), 1.2, voice.rate) + 0.4 * buzz + 0.35 * gnaw * teeth
    return np.asarray(sound, dtype=np.float32)
