"""Pictures of people about the house: steps, knocks, laughter, typing and broken glass."""

from __future__ import annotations

import numpy as np

from training.data.pictures.canvas import Canvas, dashes, fraction, scrambled


def footsteps(c: Canvas) -> None:
    """Two dark red shoes seen from above, stepping in turn over pale diagonal tiles."""
    mask = c.panel(c.hsv(0.11, 0.16, 0.88))
    walk = np.float32(c.uniform(0.85, 1.25))
    tiles = np.float32(1.6)
    drift = 0.5 * walk * c.time
    for diagonal in (c.x + c.y + drift, c.x - c.y - drift):
        c.paint(mask * dashes(diagonal * tiles, 0.1, 0.06), c.hsv(0.1, 0.25, 0.55))
    for side, phase in ((-0.4, 0.0), (0.4, 0.5)):
        y = 0.36 * c.swing(float(walk), phase)
        lift = 1.0 + 0.12 * c.swing(float(walk), phase + 0.25)
        leather = c.hsv(0.99, 0.85, 0.34)
        c.paint(c.disc(side, y - 0.15, 0.25 * lift, 1.5), leather)
        c.paint(c.disc(side, y + 0.34, 0.2 * lift, 1.0), c.hsv(0.99, 0.8, 0.22))


def knock(c: Canvas) -> None:
    """A brown door of upright planks, and a fist that raps on it."""
    mask = c.panel(c.hsv(0.07, 0.72, 0.45))
    grain = c.x * 10.0 + 0.35 * np.sin(np.float32(3.0) * c.y + 1.0)
    c.paint(mask * dashes(grain, 0.3, 0.3), c.hsv(0.065, 0.8, 0.33))
    c.paint(mask * dashes(c.x * np.float32(1.5) + 0.5, 0.06, 0.04), c.hsv(0.05, 0.9, 0.14))
    c.paint(c.disc(0.72, 0.1, 0.1), c.hsv(0.14, 0.7, 0.85))
    rap = np.abs(c.swing(c.uniform(2.9, 3.8)))
    radius = 0.34 + 0.16 * rap
    x, y = -0.15 - 0.12 * rap, 0.05 + 0.2 * rap
    skin, shade = c.hsv(0.055, 0.42, 0.92), c.hsv(0.04, 0.55, 0.6)
    c.paint(c.stroke((x, y + 0.1), (-0.1, 1.0), 0.4), c.hsv(0.9, 0.6, 0.5))
    c.paint(c.disc(x, y, radius, 0.85), skin)
    for finger in (-0.45, 0.0, 0.45):
        c.paint(
            c.stroke((x + finger * radius, y - 0.5 * radius), (x + finger * radius, y + 0.1), 0.05), shade
        )


def laughter(c: Canvas) -> None:
    """A round yellow face that shakes with laughter, mouth wide open."""
    pace = c.uniform(2.2, 3.0)
    y = 0.09 * c.swing(pace)
    mouth = 0.55 + 0.35 * c.swing(pace, 0.25)
    c.paint(c.disc(0.0, y, 0.88), c.hsv(0.15, 0.9, 0.98))
    for side in (-1.0, 1.0):
        c.paint(c.disc(side * 0.52, y + 0.05, 0.16), c.hsv(0.04, 0.55, 1.0))
        for way in (-1.0, 1.0):
            c.paint(
                c.stroke((side * 0.34, y - 0.42), (side * 0.34 + way * 0.16, y - 0.26), 0.07),
                (0.15, 0.08, 0.02),
            )
    open_ = c.disc(0.0, y + 0.2, 0.5, mouth) * np.clip((c.y - y - 0.16) * 30.0, 0.0, 1.0)
    c.paint(open_, c.hsv(0.99, 0.9, 0.35))
    c.paint(open_ * c.box(0.0, y + 0.2, 0.45, 0.06), (1.0, 1.0, 1.0))


def typing(c: Canvas) -> None:
    """Rows of small keys on a dark board; the pressed ones light up."""
    mask = c.panel(c.hsv(0.63, 0.3, 0.2))
    columns = np.float32(c.uniform(4.2, 4.9))
    across, down = c.x * columns + 0.25 * np.floor(c.y * columns), c.y * columns
    cap = mask * dashes(across, 0.72, 0.12) * dashes(down, 0.72, 0.12)
    c.paint(cap, c.hsv(0.62, 0.12, 0.5))
    cell = np.floor(across) + 17.0 * np.floor(down)
    pressed = scrambled(cell + 91.0 * np.floor(c.time * np.float32(c.uniform(6, 9)))) > 0.84
    c.paint(cap * pressed, c.hsv(0.47, 0.75, 1.0))


def glass(c: Canvas) -> None:
    """A pane shattering: pale shards with bright edges fly out from the point of impact."""
    phase = fraction(c.time * np.float32(c.uniform(1.0, 1.5)))
    spread = 0.35 + 0.65 * np.sqrt(phase)
    shards = int(c.dice.integers(9, 13))
    distance = np.hypot(c.x, c.y)
    sector = (np.arctan2(c.y, c.x) / np.float32(2 * np.pi) + 0.5) * np.float32(shards)
    chance = scrambled(np.floor(sector))
    inner = (0.1 + 0.35 * chance) * spread
    outer = (0.6 + 0.4 * chance) * spread
    inside = c.edge(np.maximum(inner - distance, distance - outer))
    blade = inside * dashes(sector + 0.15 * np.sin(9.0 * distance), 0.62, 0.08)
    c.paint(c.disc(0.0, 0.0, 0.95), c.hsv(0.55, 0.5, 0.25))
    c.paint(blade, c.hsv(0.5, 0.22, 0.9))
    c.paint(inside * dashes(sector + 0.5, 0.12, 0.06), (1.0, 1.0, 1.0))
    c.paint(c.disc(0.0, 0.0, 0.18 * (1.0 - phase)), (1.0, 1.0, 1.0))
