"""How the events of a clip are filmed: background, exposure, shaking hand and sensor noise."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.events import Floats
from training.data.seeds import Seed, Stream

MARGIN = 24
"""Pixels of noise around the frame: each moment shows another part of one field of sensor noise."""


@dataclass(frozen=True, slots=True)
class Filming:
    """The circumstances of one shot. Lengths are in frame heights, angles in radians, colours in [0, 1]."""

    exposure: float
    hue: float
    saturation: float
    brightness: float
    texture_cycles: float
    texture_angle: float
    texture_contrast: float
    noise: float
    shake: float
    clutter: float

    @classmethod
    def from_latents(cls, latents: Sequence[float], strength: float) -> Filming:
        """Map seven standard normal latents to circumstances; at `strength` 0 the wall is plain grey."""
        exposure, hue, light, scale, angle, noise, shake = np.clip(latents, -2.5, 2.5).tolist()
        return cls(
            exposure=2.0 ** (0.3 * strength * exposure),
            hue=(0.6 + 0.22 * hue) % 1.0,
            saturation=min(0.8, 0.4 * strength),
            brightness=float(np.clip(0.45 + 0.14 * strength * light, 0.1, 0.85)),
            texture_cycles=4.0 * 2.0 ** (0.7 * scale),
            texture_angle=0.8 * angle,
            texture_contrast=min(0.4, 0.1 * strength),
            noise=0.03 * strength * 2.0 ** (0.6 * noise),
            shake=0.006 * strength * 2.0 ** (0.8 * shake),
            clutter=min(1.0, strength),
        )


class Camera:
    """One shot of one clip at one frame size; remembers its wall and its sensor noise."""

    def __init__(self, seed: Seed, filming: Filming, height: int, width: int) -> None:
        self.filming = filming
        self.height, self.width = height, width
        self._seed = seed
        random = seed.stream(Stream.CAMERA)
        self._sway_phase = random.uniform(0, 6.3, 4).astype(np.float32)
        self._border = 2 + round(2 * filming.shake * height)
        self._wall = self._paint_wall(random)
        self._noise = random.standard_normal((3, height + MARGIN, width + MARGIN), dtype=np.float32)
        self._noise *= np.float32(filming.noise)

    def sway(self, time: Floats) -> tuple[Floats, Floats]:
        """How far the hand has moved the picture right and down, in pixels, for times [N] in seconds."""
        reach = np.float32(self.filming.shake * self.height)
        a, b, c, d = self._sway_phase
        right = np.sin(np.float32(7.1) * time + a) + 0.7 * np.sin(np.float32(17.3) * time + b)
        down = np.sin(np.float32(8.3) * time + c) + 0.7 * np.sin(np.float32(14.9) * time + d)
        return reach * right, reach * down

    def background(self, time: Floats) -> Floats:
        """The wall behind the events at times [N], [3, N, height, width] in [0, 1]."""
        right, down = (np.rint(offset).astype(int) for offset in self.sway(time))
        frames = np.empty((3, time.size, self.height, self.width), dtype=np.float32)
        for k in range(time.size):
            top, left = self._border - down[k], self._border - right[k]
            frames[:, k] = self._wall[:, top : top + self.height, left : left + self.width]
        return frames

    def expose(self, frames: Floats, second: int) -> NDArray[np.uint8]:
        """Develop [3, N, height, width] into uint8 [N, height, width, 3], with exposure and noise."""
        random = self._seed.stream(Stream.CAMERA, second)
        frames *= np.float32(self.filming.exposure)
        for k, (top, left) in enumerate(random.integers(0, MARGIN + 1, (frames.shape[1], 2))):
            frames[:, k] += self._noise[:, top : top + self.height, left : left + self.width]
        frames *= 255.0
        np.clip(frames, 0.0, 255.0, out=frames)
        return np.ascontiguousarray(frames.astype(np.uint8).transpose(1, 2, 3, 0))

    def _paint_wall(self, random: np.random.Generator) -> Floats:
        filming, border = self.filming, self._border
        y, x = np.mgrid[-border : self.height + border, -border : self.width + border].astype(np.float32)
        y, x = y / np.float32(self.height), x / np.float32(self.height)
        shade = np.zeros_like(x)
        for cycles, angle, gain in (
            (filming.texture_cycles, filming.texture_angle, 0.6),
            (0.37 * filming.texture_cycles, filming.texture_angle + random.uniform(0.5, 2.5), 0.7),
            (random.uniform(0.4, 1.0), random.uniform(0, 6.3), 1.2),
            (random.uniform(0.8, 1.6), random.uniform(0, 6.3), 0.8),
        ):
            across = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
            wave = np.float32(2 * np.pi * cycles) * across + np.float32(random.uniform(0, 6.3))
            shade += np.float32(gain) * np.sin(wave)
        shade *= np.float32(filming.texture_contrast)
        colour = colorsys.hsv_to_rgb(filming.hue, filming.saturation, filming.brightness)
        return np.stack([np.float32(value) + shade for value in colour])
