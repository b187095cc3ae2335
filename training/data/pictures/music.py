"""Pictures of instruments: bell, drum, guitar, flute and piano."""

from __future__ import annotations

import numpy as np

from training.data.pictures.canvas import Canvas, dashes, fraction, scrambled


def bell(c: Canvas) -> None:
    """A golden bell that swings from its yoke, the clapper lagging behind."""
    angle = 0.5 * c.swing(c.uniform(0.7, 1.1))
    down = (c.y + 0.8) * np.cos(angle) + c.x * np.sin(angle)
    across = c.x * np.cos(angle) - (c.y + 0.8) * np.sin(angle)
    flare = 0.3 + 0.18 * np.clip(down / 1.3, 0.0, 1.0) + 0.3 * np.clip(down / 1.3, 0.0, 1.0) ** 6
    c.paint(c.box(0.0, -0.9, 0.7, 0.1), c.hsv(0.07, 0.6, 0.3))
    c.paint(c.edge(np.hypot(across + 0.9 * np.sin(0.4 * angle), down - 1.42) - 0.17), c.hsv(0.1, 0.9, 0.35))
    body = c.edge(np.maximum(np.abs(across) - flare, np.maximum(0.1 - down, down - 1.4)))
    c.paint(body, c.hsv(0.125, 0.88, 0.85))
    c.paint(body * np.clip(1.0 - np.abs(across + 0.12) * 7.0, 0.0, 1.0), c.hsv(0.15, 0.3, 1.0))
    for height in (0.35, 1.12):
        c.paint(body * np.clip(1.0 - np.abs(down - height) * 18.0, 0.0, 1.0), c.hsv(0.09, 0.95, 0.5))


def drum(c: Canvas) -> None:
    """A red drum seen from above: white skin, rings running outwards, two sticks in turn."""
    pace = c.uniform(1.7, 2.5)
    distance = np.hypot(c.x, c.y)
    c.paint(c.disc(0.0, 0.0, 0.92), c.hsv(0.985, 0.95, 0.72))
    c.paint(c.ring(0.0, 0.0, 0.82, 0.05), c.hsv(0.13, 0.5, 0.95))
    skin = c.disc(0.0, 0.0, 0.72)
    c.paint(skin, c.hsv(0.1, 0.1, 0.95))
    shock = dashes(distance * 3.6 - np.float32(2 * pace) * c.time, 0.4, 0.25)
    c.paint(skin * shock, c.hsv(0.99, 0.5, 0.6))
    for side, phase in ((-1.0, 0.0), (1.0, 0.5)):
        strike = c.swing(pace, phase)
        tip = (side * (0.18 + 0.1 * strike), 0.1 - 0.35 * strike)
        c.paint(c.stroke((side * 0.95, 0.95), tip, 0.12), c.hsv(0.08, 0.5, 0.45))


def guitar(c: Canvas) -> None:
    """Level strings trembling over the dark hole of an amber soundboard."""
    mask = c.panel(c.hsv(0.075, 0.85, 0.78))
    c.paint(mask * c.ring(0.0, 0.0, 0.66, 0.12), c.hsv(0.05, 0.9, 0.35))
    c.paint(mask * c.disc(0.0, 0.0, 0.58), c.hsv(0.05, 0.8, 0.1))
    belly = np.cos(np.float32(0.5 * np.pi) * np.clip(c.x, -1.0, 1.0))
    strum = np.abs(c.swing(c.uniform(1.0, 1.6)))
    for k, pluck in enumerate(c.numbers(5.0, 9.0, 6)):
        wave = 0.075 * (0.3 + strum) * belly * c.swing(float(pluck), 0.17 * k)
        string = np.clip(1.4 - np.abs(c.y - (-0.7 + 0.28 * k) - wave) * np.float32(28.0), 0.0, 1.0)
        c.paint(mask * string, (0.98, 0.95, 0.85))


def flute(c: Canvas) -> None:
    """A silver tube held aslant on violet cloth, its keys opening and closing, notes drifting up."""
    mask = c.panel(c.hsv(0.79, 0.65, 0.55))
    sway = 0.1 * c.swing(c.uniform(0.4, 0.7))
    down = c.y - 0.75 * c.x + sway
    tube = mask * c.edge(np.abs(down) - 0.3)
    c.paint(tube, c.hsv(0.6, 0.06, 0.82))
    c.paint(tube * np.clip(1.0 - np.abs(down + 0.1) * 10.0, 0.0, 1.0), (1.0, 1.0, 1.0))
    place = c.x * 3.0
    hole = np.hypot(fraction(place) - 0.5, down * 2.0)
    shut = scrambled(np.floor(place) + 31.0 * np.floor(c.time * np.float32(c.uniform(2.0, 3.0)))) > 0.5
    c.paint(tube * np.clip((0.32 - hole) * 9.0, 0.0, 1.0), (0.1, 0.08, 0.14))
    c.paint(tube * np.clip((0.22 - hole) * 9.0, 0.0, 1.0) * shut, c.hsv(0.14, 0.6, 0.95))
    for start, x in ((0.0, -0.6), (0.4, 0.1), (0.7, 0.65)):
        y = 1.0 - 2.0 * fraction(start + 0.35 * c.time)
        c.paint(mask * c.disc(x, y, 0.1, 0.75), c.hsv(0.8, 0.9, 0.16))
        c.paint(mask * c.stroke((x + 0.08, y), (x + 0.08, y - 0.3), 0.04), c.hsv(0.8, 0.9, 0.16))


def piano(c: Canvas) -> None:
    """White and black keys side by side; those being played go down and tint."""
    mask = c.panel((0.96, 0.96, 0.93))
    place = c.x * np.float32(c.uniform(3.6, 4.4)) + 0.5
    key = np.floor(place)
    played = scrambled(key + 57.0 * np.floor(c.time * np.float32(c.uniform(3.5, 5.0)))) > 0.7
    c.paint(0.8 * mask * played, c.hsv(0.58, 0.35, 0.8))
    c.paint(mask * dashes(place + 0.5, 0.1, 0.05), (0.1, 0.1, 0.1))
    sharp = scrambled(np.floor(place + 0.5)) > 0.3
    c.paint(mask * sharp * dashes(place + 0.5, 0.5, 0.06) * c.edge(c.y - 0.2), (0.04, 0.04, 0.05))
    c.paint(c.box(0.0, -0.9, 0.97, 0.1), (0.1, 0.06, 0.05))
