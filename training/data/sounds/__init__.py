"""The sound of each event, and the sound track of a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from training.data.events import EVENTS, Floats, Occurrence
from training.data.seeds import Seed, Stream
from training.data.sounds import animals, machines, music, nature, people
from training.data.sounds.recording import Recording, record
from training.data.sounds.synthesis import Voice, unit_power

SOUNDS: dict[str, Callable[[Voice], Floats]] = {
    "siren": machines.siren,
    "bell": music.bell,
    "rain": nature.rain,
    "engine": machines.engine,
    "footsteps": people.footsteps,
    "bird": animals.bird,
    "telephone": machines.telephone,
    "drum": music.drum,
    "wind": nature.wind,
    "clock": machines.clock,
    "knock": people.knock,
    "laughter": people.laughter,
    "dog": animals.dog,
    "cat": animals.cat,
    "thunder": nature.thunder,
    "helicopter": machines.helicopter,
    "train": machines.train,
    "sea": nature.sea,
    "frog": animals.frog,
    "cricket": animals.cricket,
    "guitar": music.guitar,
    "flute": music.flute,
    "piano": music.piano,
    "glass": people.glass,
    "typing": people.typing,
    "drip": nature.drip,
    "fire": nature.fire,
    "chainsaw": machines.chainsaw,
}
"""A voice in, [voice.length] samples out, of any power."""

FADE_SECONDS = 0.012


def event_sound(
    occurrences: Sequence[Occurrence], random: np.random.Generator, seconds: int, rate: int
) -> Floats:
    """All audible occurrences of one event, [seconds * rate]: one voice, of unit power while it is on."""
    intervals = [interval for o in occurrences if (interval := o.interval("audio"))]
    start = max(0, round(min(intervals)[0] * rate))
    stop = min(seconds * rate, round(max(offset for _, offset in intervals) * rate))
    time = np.arange(start, stop, dtype=np.float32) / np.float32(rate)
    gate = np.zeros_like(time)
    for onset, offset in intervals:
        edge = np.minimum(time - np.float32(onset), np.float32(offset) - time) / np.float32(FADE_SECONDS)
        np.maximum(gate, np.clip(edge, 0.0, 1.0), out=gate)
    sound = unit_power(SOUNDS[occurrences[0].event](Voice(random, rate, stop - start)) * gate)
    track = np.zeros(seconds * rate, dtype=np.float32)
    track[start:stop] = sound * np.float32(np.sqrt(np.mean(gate)) * occurrences[0].prominence)
    return track


def sound_track(
    seed: Seed, occurrences: Sequence[Occurrence], recording: Recording, seconds: int, rate: int
) -> Floats:
    """The sound of a clip, [seconds * rate] within [-1, 1]: its events, heard through one recording."""
    dry = np.zeros(seconds * rate, dtype=np.float32)
    for number, event in enumerate(EVENTS):
        audible = [o for o in occurrences if o.event == event and o.modality != "video"]
        if audible:
            dry += event_sound(audible, seed.stream(Stream.SOUND, number), seconds, rate)
    return record(dry, recording, seed.stream(Stream.RECORDING), rate)
