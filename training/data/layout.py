"""When the events of a clip go on and off."""

from __future__ import annotations

import numpy as np

from training.data.events import EVENTS, Occurrence, Sense

MAX_LAG = 0.08
SHORTEST = 0.5


def lay_out(primary: str, seconds: int, random: np.random.Generator) -> tuple[Occurrence, ...]:
    """The primary event for most of the clip in both modalities, then up to two others in one each."""
    occurrences = [
        Occurrence(primary, "both", onset, offset, lag=float(random.uniform(-MAX_LAG, MAX_LAG)))
        for onset, offset in primary_intervals(seconds, random)
    ]
    others = [event for event in EVENTS if event != primary]
    for event in random.choice(others, int(random.integers(0, 3)), replace=False):
        length = float(random.uniform(0.15, 0.35)) * seconds
        onset = float(random.uniform(0.0, seconds - length))
        loudness = float(random.uniform(0.25, 0.45))
        sense: Sense = "audio" if random.random() < 0.5 else "video"
        occurrences.append(Occurrence(str(event), sense, onset, onset + length, prominence=loudness))
    return tuple(occurrences)


def primary_intervals(seconds: int, random: np.random.Generator) -> list[tuple[float, float]]:
    """On-times that cover at least 70 % of the clip, with up to two gaps in clips of 4 s and more."""
    gaps = int(random.integers(0, 3)) if seconds >= 4 else 0
    intervals = []
    onset = 0.0
    for k in range(gaps):
        length = float(random.uniform(0.05, 0.15)) * seconds
        slot = seconds / gaps
        start = k * slot + float(random.uniform(0.0, slot - length))
        if start - onset >= SHORTEST:
            intervals.append((onset, start))
        onset = start + length
    if seconds - onset >= SHORTEST:
        intervals.append((onset, float(seconds)))
    return intervals
