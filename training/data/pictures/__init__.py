"""The moving picture of each event, and the frames of a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.events import EVENTS, Occurrence
from training.data.pictures import animals, machines, music, nature, people
from training.data.pictures.camera import Camera, Filming
from training.data.pictures.canvas import Canvas
from training.data.pictures.scene import canvas_at, draw_clutter, event_place, visibility
from training.data.seeds import Seed, Stream

PICTURES: dict[str, Callable[[Canvas], None]] = {
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
"""Paints one event on its canvas, at the canvas's times."""


def moving_picture(
    seed: Seed,
    occurrences: Sequence[Occurrence],
    filming: Filming,
    seconds: int,
    per_second: int,
    height: int,
    width: int,
) -> Iterator[NDArray[np.uint8]]:
    """Yield each second of a clip as [per_second, height, width, 3].

    Frame j of second i is at i + (j + 0.5) / per_second.
    """
    camera = Camera(seed, filming, height, width)
    visible = [o for o in occurrences if o.modality != "audio"]
    by_size = sorted({o.event: o.prominence for o in visible}.items(), key=lambda item: item[1])
    for second in range(seconds):
        time = (second + (np.arange(per_second) + 0.5) / per_second).astype(np.float32)
        frames = camera.background(time)
        for event, prominence in by_size:
            opacity = visibility([o for o in visible if o.event == event], time)
            if opacity.any():
                place = event_place(seed, event, prominence)
                dice = seed.stream(Stream.PICTURE, EVENTS.index(event))
                PICTURES[event](canvas_at(place, frames, camera, time, opacity, dice))
        draw_clutter(seed, camera, frames, time)
        yield camera.expose(frames, second)
