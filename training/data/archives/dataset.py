"""What a released dataset is, whatever its files look like: clips in a list, and a way to read each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.archives.faults import BadClip, Faults
from training.data.archives.files import Files, Part
from training.data.archives.zip_pickle import ZipFolder
from training.data.store_manifest import Task

AS_RELEASED = {"audio": "VGGish, as released", "video": "VGG19 pool5, as released"}
"""What a store says of features that came with a dataset of this line of work."""

_SPLIT = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Clip:
    """One clip as its dataset lists it.

    Raises:
        BadClip: it has no name, or that of a split could be none of a file.
    """

    id: str
    where: str
    splits: tuple[str, ...] = ()
    label: int = -1
    target: NDArray[np.bool_] | None = None  # [T, C + 1]
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise BadClip("it has no name")
        for split in self.splits:
            if not _SPLIT.fullmatch(split):
                raise BadClip(f"'{split}' is no name of a split")


Reader = Callable[[Clip], NDArray[Any]]
"""The array of a clip as its file has it; raises BadClip."""


@dataclass(frozen=True)
class Dataset:
    """Clips with distinct names, and by modality how to read their features."""

    clips: Sequence[Clip]
    readers: Mapping[str, Reader]
    classes: tuple[str, ...] = ()
    flags: Reader | None = None  # one a second: does the clip's class happen in it?
    seconds: int = 10
    folders: Mapping[str, ZipFolder] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What is known of a dataset as released; a number that is not known is not checked."""

    clips: tuple[int, ...] = ()  # any of these
    splits: Mapping[str, int] = field(default_factory=dict)
    classes: int | None = None
    halved: range | None = None  # the clips of a first release that lacked many


@dataclass(frozen=True)
class Format:
    """A released dataset under the name of its store."""

    name: str
    says: str
    home: str
    task: Task
    parts: tuple[Part, ...]
    open: Callable[[Files, Faults], Dataset]
    features: Mapping[str, str] = field(default_factory=dict)
    known: Known = field(default_factory=Known)

    def is_halved(self, clips: int) -> bool:
        """Is this the number of clips in the first release of the list?"""
        return self.known.halved is not None and clips in self.known.halved


def distinct(clips: Sequence[Clip], faults: Faults) -> list[Clip]:
    """The clips, each name once.

    Raises:
        BadClip: a name comes again, and nothing is to be skipped.
    """
    first: dict[str, Clip] = {}
    for clip in clips:
        with faults.tolerated(clip.where):
            if clip.id in first:
                raise BadClip(f"'{clip.id}' is listed in {first[clip.id].where} already")
            first[clip.id] = clip
    return list(first.values())


def zipped(files: Files, *parts: str) -> tuple[dict[str, Reader], dict[str, ZipFolder]]:
    """Readers by the names of the clips, and the folders they read, for those of `parts` that are there."""
    folders = {part: ZipFolder(files[part]) for part in parts if part in files}
    return {part: by_name(folder) for part, folder in folders.items()}, folders


def by_name(folder: ZipFolder) -> Reader:
    """Reads `<name of the clip>.zip`."""
    return lambda clip: folder.read(clip.id)
