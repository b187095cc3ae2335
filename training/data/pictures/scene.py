"""Who stands where in the picture: events and meaningless clutter, each on its own canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.events import EVENTS, Floats, Occurrence
from training.data.pictures.camera import Camera
from training.data.pictures.canvas import Canvas
from training.data.seeds import Seed, Stream

FADE_SECONDS = 0.1
CLUTTER_PIECES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is: its centre in parts of the frame, its side in parts of the shorter frame side."""

    x: float
    y: float
    side: float
    tilt: float
    drift_x: float
    drift_y: float
    drift_rate: float
    hue_shift: float

    @classmethod
    def draw(cls, random: np.random.Generator, side: float, roam: float, hue: float) -> Place:
        """Anywhere mostly in the frame. `roam` is the drift in sides, `hue` the largest hue shift."""
        reach = max(0.0, 0.5 - 0.45 * side)
        return cls(
            x=float(0.5 + random.uniform(-reach, reach)),
            y=float(0.5 + random.uniform(-reach, reach)),
            side=side,
            tilt=float(random.uniform(-0.14, 0.14)),
            drift_x=float(random.uniform(-roam, roam)),
            drift_y=float(random.uniform(-roam, roam)),
            drift_rate=float(random.uniform(0.1, 0.3)),
            hue_shift=float(random.uniform(-hue, hue)),
        )


def canvas_at(
    place: Place, frames: Floats, camera: Camera, time: Floats, opacity: Floats, dice: np.random.Generator
) -> Canvas:
    """The part of `frames` [3, N, H, W] around `place`, with local coordinates at times [N]."""
    height, width = frames.shape[2:]
    half = max(0.5 * place.side * min(height, width), 1.0)
    sway_x, sway_y = camera.sway(time)
    wander = np.sin(np.float32(2 * np.pi * place.drift_rate) * time)
    x0 = place.x * width + sway_x + np.float32(2 * half * place.drift_x) * wander
    y0 = place.y * height + sway_y + np.float32(2 * half * place.drift_y) * np.cos(2.1 * wander)
    left, right = covered(x0, 1.15 * half, width)
    top, bottom = covered(y0, 1.15 * half, height)
    across = (np.arange(left, right, dtype=np.float32) + 0.5 - x0[:, None, None]) / np.float32(half)
    down = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y0[:, None, None]) / np.float32(half)
    cos, sin = np.float32(np.cos(place.tilt)), np.float32(np.sin(place.tilt))
    return Canvas(
        pixels=frames[:, :, top:bottom, left:right],
        time=time[:, None, None],
        x=cos * across + sin * down,
        y=cos * down - sin * across,
        pixel=1.0 / half,
        opacity=opacity[:, None, None],
        dice=dice,
        hue_shift=place.hue_shift,
    )


def covered(centres: Floats, reach: float, size: int) -> tuple[int, int]:
    """First and past-the-last pixel within `reach` of any centre; equal if that is all off the frame."""
    first = min(max(0, int(centres.min() - reach)), size)
    return first, max(first, min(size, int(centres.max() + reach) + 1))


def visibility(occurrences: Sequence[Occurrence], time: Floats) -> Floats:
    """How much of an event shows at times [N]: 0 when it is off, 1 when on, a short fade between."""
    shown = np.zeros_like(time)
    for onset, offset in filter(None, (o.interval("video") for o in occurrences)):
        edge = np.minimum(time - np.float32(onset), np.float32(offset) - time) / np.float32(FADE_SECONDS)
        np.maximum(shown, np.clip(edge, 0.0, 1.0), out=shown)
    return shown


def event_place(seed: Seed, event: str, prominence: float) -> Place:
    random = seed.stream(Stream.PLACE, EVENTS.index(event))
    return Place.draw(random, prominence * float(random.uniform(0.68, 0.92)), roam=0.06, hue=0.035)


def draw_clutter(seed: Seed, camera: Camera, frames: Floats, time: Floats) -> None:
    """Small plain shapes of any colour that glide about and belong to no event."""
    random = seed.stream(Stream.PLACE, len(EVENTS))
    for kind in random.integers(0, 4, CLUTTER_PIECES):
        place = Place.draw(random, float(random.uniform(0.1, 0.2)), roam=2.0, hue=0.5)
        opacity = np.full_like(time, camera.filming.clutter * 0.9)
        canvas = canvas_at(place, frames, camera, time, opacity, random)
        colour = canvas.hsv(0.0, canvas.uniform(0.2, 0.9), canvas.uniform(0.2, 0.95))
        masks = {
            0: canvas.disc(0.0, 0.0, 0.8),
            1: canvas.box(0.0, 0.0, 0.7, 0.7),
            2: canvas.stroke((-0.7, -0.5), (0.7, 0.5), 0.35),
        }
        if int(kind) in masks:
            canvas.paint(masks[int(kind)], colour)
