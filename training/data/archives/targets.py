"""Which classes happen in which second of a clip, and the one class that stands for the whole of it.

T seconds, C classes; a target has C + 1 columns, the last for background: the seconds in which nothing happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.archives.faults import BadClip

Event = tuple[int, int, int]
"""Onset and offset in seconds, the offset not included, and the number of the class."""


def from_events(events: Sequence[Event], classes: int, seconds: int = 10) -> NDArray[np.bool_]:
    """[T, C + 1]: seconds onset to offset - 1 of each event; background where no event is.

    Raises:
        BadClip: an event ends before it begins, or lies outside the clip.
    """
    target = np.zeros((seconds, classes + 1), dtype=np.bool_)
    for onset, offset, label in events:
        if onset > offset:
            raise BadClip(f"onset {onset} lies after offset {offset}")
        if onset < 0 or offset > seconds:
            raise BadClip(f"seconds {onset} to {offset} lie outside a clip of {seconds}")
        target[onset:offset, label] = True
    return with_background(target)


def from_flags(flags: NDArray[Any], label: int, classes: int, seconds: int = 10) -> NDArray[np.bool_]:
    """[T, C + 1] from one flag a second: is the clip's class to be seen and heard in it?

    Raises:
        BadClip: there is another number of flags, or one is neither 0 nor 1.
    """
    if flags.size != seconds:
        raise BadClip(f"it has {flags.size} label flags, expected one for each of {seconds} seconds")
    if not np.isin(flags, (0, 1)).all():
        raise BadClip("its label flags are not all 0 or 1")
    target = np.zeros((seconds, classes + 1), dtype=np.bool_)
    target[:, label] = flags.reshape(-1) == 1
    return with_background(target)


def with_background(target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same with its last column set where no other is."""
    target[..., -1] = ~target[..., :-1].any(axis=-1)
    return target


def clip_label(target: NDArray[np.bool_]) -> int:
    """The class of a clip with one class a second at most: the highest of those that occur, -1 if none does.

    The released code takes the highest of the first set columns of all seconds, which is the same.
    """
    occurring = np.flatnonzero(target[:, :-1].any(axis=0))
    return int(occurring[-1]) if len(occurring) else -1
