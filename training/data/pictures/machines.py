"""Pictures of machines: siren, engine, telephone, clock, helicopter, train and chainsaw."""

from __future__ import annotations

import numpy as np

from training.data.pictures.canvas import Canvas, dashes, fraction


def siren(c: Canvas) -> None:
    """A light bar whose red and blue halves flash in turn, each with a glow."""
    turn = np.float32(0.5) + 0.5 * np.clip(3.0 * c.swing(c.uniform(1.6, 2.6)), -1.0, 1.0)
    c.paint(c.box(0.0, 0.0, 0.95, 0.62), (0.06, 0.06, 0.08))
    for side, hue, lit in ((-0.47, 0.0, turn), (0.47, 0.64, 1.0 - turn)):
        distance = np.hypot(c.x - side, c.y)
        glow = np.clip(1.15 - distance, 0.0, 1.0)
        c.paint(0.75 * glow * lit, c.hsv(hue, 1.0, 1.0))
        c.paint(c.disc(side, 0.0, 0.4), c.hsv(hue, 1.0, 0.3))
        c.paint(c.disc(side, 0.0, 0.4) * lit, c.hsv(hue, 0.75, 1.0))


def engine(c: Canvas) -> None:
    """A rusty block with upright fins that shakes, two pale pistons driving up and down."""
    shake = 0.04 * c.swing(c.uniform(7.0, 9.5))
    block = c.box(shake, 0.25, 0.88, 0.66)
    c.paint(block, c.hsv(0.045, 0.75, 0.55))
    c.paint(
        block * dashes((c.x - shake) * np.float32(c.uniform(4.2, 5.2)), 0.4, 0.12), c.hsv(0.04, 0.85, 0.22)
    )
    pace = c.uniform(2.6, 3.8)
    for x, phase in ((-0.45, 0.0), (0.45, 0.5)):
        y = -0.35 + 0.3 * c.swing(pace, phase)
        c.paint(c.box(x + shake, y + 0.45, 0.07, 0.4), (0.75, 0.75, 0.72))
        c.paint(c.box(x + shake, y, 0.3, 0.2), (0.88, 0.87, 0.82))
        c.paint(c.box(x + shake, y, 0.3, 0.03), (0.2, 0.2, 0.2))


def telephone(c: Canvas) -> None:
    """A magenta set with a keypad of white buttons, its receiver rattling while it rings."""
    period = c.uniform(0.55, 0.8)
    ringing = (fraction(c.time / np.float32(period)) < 0.7).astype(np.float32)
    rattle = 0.08 * c.swing(c.uniform(8, 10)) * ringing
    body, dark = c.hsv(0.89, 0.85, 0.85), c.hsv(0.88, 0.95, 0.45)
    c.paint(c.box(0.0, 0.25, 0.72, 0.68), body)
    buttons = dashes((c.x + 0.2) * 2.5, 0.55, 0.15) * dashes((c.y + 0.08) * 2.9, 0.55, 0.15)
    c.paint(c.box(0.0, 0.33, 0.6, 0.52) * buttons, (1.0, 0.96, 0.98))
    y = -0.62 + rattle
    c.paint(c.stroke((-0.6, y), (0.6, y), 0.24), dark)
    for side in (-1.0, 1.0):
        c.paint(c.disc(side * 0.72, y + 0.1, 0.24), dark)
        for radius in (0.28, 0.42):
            c.paint(0.8 * ringing * c.ring(side * 0.8, y - 0.05, radius, 0.05), c.hsv(0.15, 0.9, 1.0))


def clock(c: Canvas) -> None:
    """A white dial with black marks, its hands turning by jerks."""
    c.paint(c.disc(0.0, 0.0, 0.94), (0.12, 0.12, 0.13))
    c.paint(c.disc(0.0, 0.0, 0.82), (0.97, 0.97, 0.94))
    distance = np.hypot(c.x, c.y)
    angle = np.arctan2(c.y, c.x) / np.float32(2 * np.pi)
    marks = dashes(12.0 * angle + 0.5, 0.2, 0.08) * c.edge(np.abs(distance - 0.68) - 0.09)
    c.paint(marks, (0.05, 0.05, 0.05))
    ticks = np.floor(c.time * np.float32(c.uniform(3.0, 5.0))) * np.float32(c.uniform(0.25, 0.4))
    for turns, length, width in ((ticks, 0.68, 0.06), (0.08 * ticks + c.uniform(0, 6), 0.48, 0.12)):
        c.paint(
            c.stroke((0.0, 0.0), (length * np.sin(turns), -length * np.cos(turns)), width), (0.04, 0.04, 0.05)
        )
    c.paint(c.disc(0.0, 0.0, 0.08), (0.04, 0.04, 0.05))


def helicopter(c: Canvas) -> None:
    """An olive hull from above under a cross of long blades that spin."""
    turns = c.time * np.float32(2 * np.pi * c.uniform(0.9, 1.35)) + np.float32(c.uniform(0, 6))
    olive = c.hsv(0.2, 0.65, 0.4)
    c.paint(c.disc(0.0, 0.0, 0.95), c.hsv(0.55, 0.08, 0.82))
    c.paint(c.disc(0.0, -0.15, 0.3, 1.5), olive)
    c.paint(c.box(0.0, 0.55, 0.08, 0.4), olive)
    c.paint(c.box(0.0, 0.86, 0.28, 0.06), olive)
    c.paint(c.disc(0.0, -0.38, 0.18, 0.8), c.hsv(0.55, 0.5, 0.7))
    sector = (np.arctan2(c.y, c.x) + turns) * np.float32(4 / (2 * np.pi))
    rotor = c.disc(0.0, 0.0, 0.95)
    c.paint(0.85 * rotor * dashes(sector, 0.3, 0.2), (0.1, 0.11, 0.08))


def train(c: Canvas) -> None:
    """Dark green carriages running past: lit windows in a row, wheels and rails below."""
    speed = np.float32(c.uniform(0.9, 1.4)) * np.float32(1.0 if c.uniform(0, 1) < 0.5 else -1.0)
    mask = c.panel(c.hsv(0.6, 0.12, 0.42))
    along = c.x - speed * c.time
    c.paint(mask * c.box(0.0, -0.1, 2.0, 0.56), c.hsv(0.42, 0.85, 0.3))
    c.paint(mask * c.box(0.0, 0.24, 2.0, 0.05), c.hsv(0.13, 0.85, 0.9))
    windows = dashes(along * np.float32(c.uniform(1.8, 2.3)), 0.6, 0.08)
    c.paint(mask * windows * c.box(0.0, -0.22, 2.0, 0.24), c.hsv(0.14, 0.4, 1.0))
    wheel = np.hypot(fraction(along * 1.6) - 0.5, (c.y - 0.56) * 1.6)
    c.paint(mask * np.clip((0.3 - wheel) * 12.0, 0.0, 1.0), (0.05, 0.05, 0.06))
    c.paint(mask * c.box(0.0, 0.8, 2.0, 0.06), (0.7, 0.68, 0.66))
    c.paint(mask * dashes(along * 2.4, 0.45, 0.1) * c.box(0.0, 0.92, 2.0, 0.06), c.hsv(0.06, 0.6, 0.25))


def chainsaw(c: Canvas) -> None:
    """A lime body with black stripes, a steel bar with racing teeth, dust flying over a stack of logs."""
    mask = c.panel(c.hsv(0.05, 0.55, 0.16))
    log = np.hypot(fraction(c.x * 2.0) - 0.5, fraction(c.y * 2.0) - 0.5)
    c.paint(mask * np.clip((0.44 - log) * 14.0, 0.0, 1.0), c.hsv(0.03, 0.38, 0.72))
    c.paint(mask * np.clip(1.0 - np.abs(log - 0.25) * 14.0, 0.0, 1.0), c.hsv(0.03, 0.6, 0.4))
    across, down = 0.8 * c.x + 0.6 * c.y, -0.6 * c.x + 0.8 * c.y + 0.03 * c.swing(c.uniform(8, 11))
    run = across * np.float32(c.uniform(2.6, 3.2)) - np.sign(down) * c.time * np.float32(c.uniform(4, 6))
    teeth = 0.32 + 0.3 * fraction(run)
    along = np.abs(across - 0.2) - 0.95
    c.paint(c.edge(np.maximum(np.abs(down) - teeth, along)), (0.9, 0.92, 0.95))
    c.paint(c.edge(np.maximum(np.abs(down) - 0.24, along + 0.06)), (0.36, 0.38, 0.44))
    body = c.edge(np.maximum(np.abs(down) - 0.78, np.abs(across + 0.52) - 0.52))
    c.paint(body, c.hsv(0.215, 1.0, 0.95))
    c.paint(body * dashes((across + down) * np.float32(2.4), 0.42, 0.1), (0.05, 0.06, 0.04))
    for start, slope in zip(c.numbers(0, 1, 7), c.numbers(-0.8, 0.8, 7), strict=True):
        age = fraction(start + 2.2 * c.time)
        x, y = 0.2 - 0.2 * age + 0.5 * float(slope), 0.5 + 0.5 * age * slope
        c.paint(c.disc(x, y, 0.07), c.hsv(0.12, 0.45, 0.95))
