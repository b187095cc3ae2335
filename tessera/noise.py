"""Inputs that look and sound like nothing, the same on every machine, and features that reach many codes.

B windows, T segments, S recorded segments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessera.manifest import AudioSpec, TextSpec, VideoSpec

Features = NDArray[np.float32]

_SCALES = (0.5, 1.0, 2.0, 4.0)


def media_noise(
    spec: AudioSpec | VideoSpec | TextSpec, pieces: int, windows: int, time: int, seed: int
) -> dict[str, NDArray[np.generic]]:
    """What the backbone of `spec` takes; of text, words of random token ids below `pieces`, [CLS] and [SEP] too."""
    random = np.random.RandomState(seed)
    if isinstance(spec, AudioSpec):
        return {
            "waveform": (0.2 * random.standard_normal((windows, time * spec.sample_rate))).astype(np.float32)
        }
    if isinstance(spec, VideoSpec):
        shape = (windows, time, spec.frames_per_segment, spec.height, spec.width, 3)
        return {"frames": random.randint(0, 256, shape, dtype=np.uint8)}
    slots = np.eye(time, time + 2, dtype=np.float32)
    return {
        "input_ids": random.randint(0, pieces, (windows, time + 2), dtype=np.int64),
        "slots": np.repeat(slots[None], windows, axis=0),
    }


def spread_like(recorded: Features, windows: int, time: int, seed: int) -> Features:
    """[B, T, ...] with the mean and the deviation of `recorded` [S, ...] in each channel."""
    noise = np.random.default_rng(seed).standard_normal(
        (windows, time, *recorded.shape[1:]), dtype=np.float32
    )
    mean, deviation = recorded.mean(axis=0), recorded.std(axis=0)
    features: Features = (mean + deviation * noise).astype(np.float32)
    return features


def mixed(recorded: Features, windows: int, time: int, seed: int) -> Features:
    """[B, T, ...]: segments moved by multiples of the way from one to another, which leads to many codes.

    Every second window is moved as a whole, which leads to many codes of clips.
    """
    random, of_a_segment = np.random.default_rng(seed), (windows, time)
    whole = np.arange(windows)[:, None] % 2 == 1

    def choose(options: Features) -> Features:
        index = random.integers(len(options), size=of_a_segment)
        chosen: Features = options[np.where(whole, index[:, :1], index)]
        return chosen

    start: Features = recorded[random.integers(len(recorded), size=of_a_segment)]
    scale = choose(np.array(_SCALES, np.float32)).reshape(windows, time, *(1 for _ in recorded.shape[1:]))
    return start + scale * (choose(recorded) - choose(recorded))
