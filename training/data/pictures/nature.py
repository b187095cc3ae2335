"""Pictures of weather, water and fire: textures that fill their square and flow."""

from __future__ import annotations

import numpy as np

from training.data.pictures.canvas import Canvas, dashes, fraction, scrambled


def rain(c: Canvas) -> None:
    """Thin pale streaks falling aslant over grey."""
    mask = c.panel(c.hsv(0.58, 0.28, 0.36))
    slant, lanes, speed = c.uniform(0.28, 0.42), c.uniform(11, 15), c.uniform(2.2, 3.2)
    lane = (c.x + np.float32(slant) * c.y) * np.float32(0.5 * lanes)
    chance = scrambled(np.floor(lane))
    fall = 0.8 * c.y + 3.0 * chance - (0.7 + 0.6 * chance) * np.float32(speed) * c.time
    streaks = dashes(lane, 0.3, 0.25) * dashes(fall, 0.55, 0.15)
    c.paint(mask * streaks, c.hsv(0.56, 0.12, 0.92))


def wind(c: Canvas) -> None:
    """Long level gusts rushing sideways over dusty sand, with leaves tumbling in them."""
    mask = c.panel(c.hsv(0.12, 0.42, 0.74))
    lanes, speed = c.uniform(8, 11), c.uniform(1.1, 1.8)
    wave = 0.06 * np.sin(np.float32(3.0) * c.x - 5.0 * c.time)
    lane = (c.y + wave) * np.float32(0.5 * lanes)
    chance = scrambled(np.floor(lane))
    run = 0.45 * c.x + 5.0 * chance - (0.6 + 0.8 * chance) * np.float32(speed) * c.time
    c.paint(mask * dashes(lane, 0.4, 0.25) * dashes(run, 0.65, 0.12), c.hsv(0.14, 0.08, 0.98))
    for start, height in zip(c.numbers(0, 1, 5), c.numbers(-0.75, 0.75, 5), strict=True):
        x = 2.2 * fraction(start + 0.6 * np.float32(speed) * c.time) - 1.1
        y = height + 0.12 * c.swing(1.3, float(start))
        c.paint(mask * c.disc(x, y, 0.1, 0.55), c.hsv(0.25, 0.85, 0.4))


def thunder(c: Canvas) -> None:
    """A violet storm cloud torn by zigzag lightning that lights the whole sky."""
    flicker = scrambled(np.floor(c.time * np.float32(c.uniform(5.0, 7.0))))
    flash = np.where(flicker > 0.45, 1.0, 0.15).astype(np.float32)
    sky = c.hsv(0.74, 0.62, 0.3)
    mask = c.panel((sky[0] + 0.35 * flash, sky[1] + 0.3 * flash, sky[2] + 0.45 * flash))
    cloud = c.hsv(0.73, 0.5, 0.2)
    for x, y, radius in ((-0.5, -0.6, 0.36), (0.0, -0.7, 0.42), (0.5, -0.58, 0.36)):
        c.paint(mask * c.disc(x, y, radius), cloud)
    for _ in range(2):
        corners = c.numbers(-0.28, 0.28, 5) + c.uniform(-0.45, 0.45)
        heights = (-0.35, -0.05, 0.22, 0.5, 0.9)
        for k in range(4):
            bolt = c.stroke((float(corners[k]), heights[k]), (float(corners[k + 1]), heights[k + 1]), 0.1)
            c.paint(mask * bolt * flash, (1.0, 1.0, 0.8))


def sea(c: Canvas) -> None:
    """Deep blue swells rolling towards the viewer, white foam on each crest."""
    mask = c.panel(c.hsv(0.6, 0.85, 0.45))
    waves, speed = c.uniform(2.6, 3.6), c.uniform(0.35, 0.55)
    curl = 0.12 * np.sin(np.float32(4.0) * c.x + 2.0 * c.time) + 0.05 * np.sin(
        np.float32(9.0) * c.x - 3.0 * c.time
    )
    roll = (c.y + curl) * np.float32(0.5 * waves) - np.float32(speed) * c.time
    c.paint(mask * (0.5 + 0.5 * np.sin(np.float32(2 * np.pi) * roll)), c.hsv(0.57, 0.75, 0.85))
    c.paint(mask * dashes(roll + 0.3, 0.16, 0.1), (0.97, 0.99, 1.0))


def drip(c: Canvas) -> None:
    """Rings spreading over teal water from where a drop has just fallen."""
    mask = c.panel(c.hsv(0.49, 0.75, 0.5))
    pace = c.uniform(1.0, 1.6)
    distance = np.hypot(c.x, (c.y - 0.2) / 0.7)
    travel = distance * np.float32(c.uniform(3.0, 3.8)) - np.float32(2 * pace) * c.time
    fade = np.clip(1.25 - distance, 0.0, 1.0)
    c.paint(mask * fade * dashes(travel, 0.42, 0.25), c.hsv(0.48, 0.3, 0.95))
    c.paint(mask * fade * dashes(travel + 0.5, 0.3, 0.25), c.hsv(0.51, 0.9, 0.22))
    fall = fraction(np.float32(pace) * c.time)
    c.paint(c.disc(0.0, -0.95 + 1.1 * fall * fall, 0.13, 1.4), c.hsv(0.5, 0.15, 1.0))


def fire(c: Canvas) -> None:
    """Flames: tongues of orange and yellow that lick upwards and never stand still."""
    tongues, rise = c.uniform(2.6, 3.6), c.uniform(2.2, 3.2)
    flow = c.y + np.float32(rise) * c.time
    sway = 0.2 * np.sin(np.float32(3.1) * flow) + 0.12 * np.sin(np.float32(7.3) * flow + 1.7)
    lick = np.sin(np.float32(tongues * np.pi) * (c.x + sway) + 1.2 * np.sin(4.7 * c.time))
    height = 0.35 * (1.0 - np.square(c.x)) + 0.3 * lick + 0.15 * np.sin(5.0 * flow + 6.0 * c.x)
    heat = c.y + 0.35 + height - 0.6 * np.square(c.x)
    base = np.clip((0.95 - np.maximum(np.abs(c.x), c.y)) * 12.0, 0.0, 1.0)
    for threshold, colour in (
        (0.0, c.hsv(0.01, 0.95, 0.75)),
        (0.35, c.hsv(0.06, 0.95, 1.0)),
        (0.75, c.hsv(0.12, 0.75, 1.0)),
    ):
        c.paint(base * np.clip((heat - threshold) * 6.0, 0.0, 1.0), colour)
