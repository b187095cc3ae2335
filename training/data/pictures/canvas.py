"""A square of the frame that one event is drawn on, and the brushes to draw with.

N moments, h x w pixels. Local coordinates run from -1 to 1, x to the right and y down; masks are in [0, 1],
float32 [N, h, w] or broadcastable to it; edges are as soft as one pixel.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from training.data.events import Array, Floats

Number = float | Array
Colour = tuple[Number, Number, Number]


@dataclass(frozen=True)
class Canvas:
    """`pixels` [3, N, h, w] is painted in place, `time` [N, 1, 1] in seconds, `pixel` the local size of one.

    `dice` gives the same numbers for every part of a clip, so all parts show the same object.
    """

    pixels: Floats
    time: Floats
    x: Floats
    y: Floats
    pixel: float
    opacity: Floats
    dice: np.random.Generator
    hue_shift: float

    def uniform(self, low: float, high: float) -> float:
        return float(self.dice.uniform(low, high))

    def numbers(self, low: float, high: float, count: int) -> Floats:
        return self.dice.uniform(low, high, count).astype(np.float32)

    def hsv(self, hue: float, saturation: float, value: float) -> Colour:
        """A colour of this object: `hue` in turns, moved by the object's own hue shift."""
        return colorsys.hsv_to_rgb((hue + self.hue_shift) % 1.0, saturation, value)

    def paint(self, mask: Array, colour: Colour) -> None:
        """Blend `colour` over the pixels where `mask` is."""
        cover = mask * self.opacity
        for plane, value in zip(self.pixels, colour, strict=True):
            plane += cover * (value - plane)

    def edge(self, distance: Array) -> Array:
        """Mask of where a signed distance is negative."""
        mask: Array = np.clip(0.5 - distance * np.float32(1.0 / self.pixel), 0.0, 1.0)
        return mask

    def disc(self, x: Number, y: Number, radius: Number, flatten: Number = 1.0) -> Array:
        """A disc, or an ellipse whose height is `flatten` times its width."""
        return self.edge(np.hypot(self.x - x, (self.y - y) / flatten) - radius)

    def ring(self, x: Number, y: Number, radius: Number, width: Number) -> Array:
        return self.edge(np.abs(np.hypot(self.x - x, self.y - y) - radius) - 0.5 * width)

    def box(self, x: Number, y: Number, half_width: Number, half_height: Number) -> Array:
        return self.edge(np.maximum(np.abs(self.x - x) - half_width, np.abs(self.y - y) - half_height))

    def stroke(self, start: tuple[Number, Number], end: tuple[Number, Number], width: Number) -> Array:
        """A straight line with round ends."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        across, down = self.x - start[0], self.y - start[1]
        along = np.clip((across * dx + down * dy) / (dx * dx + dy * dy + 1e-6), 0.0, 1.0)
        return self.edge(np.hypot(across - along * dx, down - along * dy) - 0.5 * width)

    def panel(self, colour: Colour, reach: float = 0.98) -> Array:
        """Fill a square with round corners and return its mask, to keep a texture inside."""
        across, down = np.abs(self.x), np.abs(self.y)
        mask = self.edge(np.sqrt(np.sqrt(across**4 + down**4)) - np.float32(reach))
        self.paint(mask, colour)
        return mask

    def swing(self, per_second: Number, phase: Number = 0.0) -> Array:
        """A sine of time in [-1, 1], [N, 1, 1]; `phase` in turns."""
        turns = self.time * np.float32(per_second) + phase
        return np.asarray(np.sin(np.float32(2 * np.pi) * turns))


def fraction(values: Array) -> Array:
    """The part after the decimal point, also of negative numbers."""
    return values - np.floor(values)


def dashes(values: Array, share: float, softness: float) -> Array:
    """A soft on-off pattern of period one that is on for `share` of it."""
    distance = np.abs(fraction(values) - 0.5) - np.float32(0.5 * share)
    mask: Array = np.clip(0.5 - distance * np.float32(1.0 / softness), 0.0, 1.0)
    return mask


def scrambled(cells: Array) -> Array:
    """A repeatable pseudo-random number in [0, 1) for each integer-valued cell."""
    return fraction(np.abs(np.sin(cells * np.float32(12.9898) + np.float32(4.1)) * np.float32(437.585)))
