"""Pictures of animals: bird, dog, cat, frog and cricket."""

from __future__ import annotations

import numpy as np

from training.data.pictures.canvas import Canvas, dashes, fraction


def bird(c: Canvas) -> None:
    """A yellow bird on a light sky, beating long wings."""
    c.panel(c.hsv(0.53, 0.35, 0.96))
    beat = c.swing(c.uniform(2.3, 3.4))
    bob = 0.08 * beat
    tip = bob - 0.55 * beat
    plumage, dark = c.hsv(0.145, 0.95, 0.95), c.hsv(0.1, 0.9, 0.45)
    for side in (-1.0, 1.0):
        c.paint(c.stroke((side * 0.12, bob), (side * 0.5, 0.6 * tip - 0.1), 0.26), plumage)
        c.paint(c.stroke((side * 0.5, 0.6 * tip - 0.1), (side * 0.88, tip), 0.14), dark)
    c.paint(c.disc(0.0, bob + 0.06, 0.24, 1.3), plumage)
    c.paint(c.disc(0.0, bob - 0.26, 0.15), plumage)
    c.paint(c.disc(0.0, bob - 0.2, 0.06, 1.5), c.hsv(0.02, 0.9, 0.9))


def dog(c: Canvas) -> None:
    """A tan head over a blue scarf, with swinging dark ears and a red mouth that snaps open."""
    snap = np.clip(c.swing(c.uniform(1.9, 2.9)), 0.0, 1.0)
    tan, brown = c.hsv(0.085, 0.5, 0.8), c.hsv(0.065, 0.75, 0.32)
    jump = -0.1 * snap
    c.paint(c.disc(0.0, 0.72, 0.9, 0.4), c.hsv(0.61, 0.9, 0.75))
    c.paint(c.disc(0.0, jump, 0.66, 1.12), tan)
    for side in (-1.0, 1.0):
        c.paint(c.disc(side * (0.66 + 0.14 * snap), jump - 0.1, 0.26, 2.2), brown)
        c.paint(c.disc(side * 0.26, jump - 0.25, 0.11), (0.05, 0.03, 0.02))
    c.paint(c.disc(0.0, jump + 0.32, 0.36, 0.9), c.hsv(0.095, 0.22, 0.95))
    c.paint(c.disc(0.0, jump + 0.12, 0.16, 0.75), (0.04, 0.03, 0.03))
    c.paint(c.disc(0.0, jump + 0.48, 0.26, 0.15 + 0.75 * snap), c.hsv(0.98, 0.85, 0.75))


def cat(c: Canvas) -> None:
    """A grey tabby head on a crimson cushion: dark stripes, pointed ears, green eyes and a pink mouth."""
    yawn = 0.5 + 0.5 * c.swing(c.uniform(0.9, 1.3))
    nod = 0.06 * c.swing(c.uniform(0.5, 0.8))
    c.paint(c.disc(0.0, 0.62, 1.0, 0.42), c.hsv(0.965, 0.9, 0.6))
    grey = c.hsv(0.62, 0.1, 0.62)
    for side in (-1.0, 1.0):
        ear = np.maximum(np.abs(c.x - side * 0.5) + 0.45 * (c.y + 0.95), c.y + 0.3) - 0.3
        c.paint(c.edge(np.maximum(ear, -0.95 - c.y)), grey)
    head = c.disc(0.0, nod + 0.1, 0.78, 0.95)
    c.paint(head, grey)
    lean = c.x + 0.25 * c.y * np.sign(c.x)
    stripes = dashes(lean * np.float32(c.uniform(3.6, 4.6)) + 0.5, 0.42, 0.15)
    c.paint(head * stripes * np.clip(1.3 - np.abs(c.y + 0.2), 0.0, 1.0), c.hsv(0.6, 0.15, 0.22))
    for side in (-1.0, 1.0):
        c.paint(c.disc(side * 0.33, nod - 0.06, 0.17, 0.8), c.hsv(0.27, 0.9, 0.85))
        c.paint(c.disc(side * 0.33, nod - 0.06, 0.05, 2.4), (0.02, 0.05, 0.02))
        for slope in (-0.12, 0.0, 0.12):
            c.paint(
                c.stroke((side * 0.2, nod + 0.38), (side * 0.98, nod + 0.38 + slope), 0.03), (1.0, 1.0, 1.0)
            )
    c.paint(c.disc(0.0, nod + 0.52, 0.15, 0.25 + 0.9 * yawn), c.hsv(0.95, 0.5, 0.9))


def frog(c: Canvas) -> None:
    """A bright green head with bulging eyes, spotted skin and a throat that swells."""
    croak = np.clip(1.4 * c.swing(c.uniform(1.4, 2.2)), 0.0, 1.0)
    green, spot = c.hsv(0.32, 0.9, 0.72), c.hsv(0.35, 0.95, 0.4)
    body = c.disc(0.0, 0.12, 0.82, 0.8)
    c.paint(body, green)
    density = np.float32(c.uniform(2.6, 3.2))
    c.paint(body * dashes(c.x * density + 0.3 * c.y, 0.4, 0.3) * dashes(c.y * density, 0.4, 0.3), spot)
    for side in (-1.0, 1.0):
        c.paint(c.disc(side * 0.45, -0.5, 0.28), green)
        c.paint(c.disc(side * 0.45, -0.54, 0.19), c.hsv(0.17, 0.85, 0.95))
        c.paint(c.disc(side * 0.45, -0.54, 0.12, 0.55), (0.02, 0.04, 0.0))
    c.paint(c.disc(0.0, 0.5, 0.3 + 0.3 * croak, 0.75), c.hsv(0.24, 0.4, 0.95))
    c.paint(c.box(0.0, 0.1, 0.5, 0.04), c.hsv(0.36, 1.0, 0.2))


def cricket(c: Canvas) -> None:
    """Upright blades of night-green grass, and a small brown hopper among them."""
    mask = c.panel(c.hsv(0.38, 0.8, 0.13))
    blades = np.float32(c.uniform(5.5, 7.0))
    bend = 0.12 * np.square(1.0 - c.y) * np.float32(0.5) * c.swing(c.uniform(0.6, 1.0))
    stalk = (c.x - bend) * blades
    c.paint(mask * dashes(stalk, 0.35, 0.2), c.hsv(0.3, 0.85, 0.42))
    c.paint(mask * dashes(0.77 * stalk + 0.3, 0.22, 0.2), c.hsv(0.24, 0.8, 0.58))
    phase = fraction(c.time * np.float32(c.uniform(1.0, 1.6)))
    x, y = 0.5 * c.swing(0.21), 0.5 - 2.2 * phase * (1.0 - phase)
    c.paint(c.disc(x, y, 0.24, 0.5), c.hsv(0.07, 0.8, 0.5))
    c.paint(c.stroke((x - 0.05, y), (x - 0.22, y - 0.2), 0.06), c.hsv(0.08, 0.8, 0.4))
    c.paint(c.stroke((x - 0.22, y - 0.2), (x - 0.3, y + 0.2), 0.05), c.hsv(0.08, 0.8, 0.4))
