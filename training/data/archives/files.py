"""Finds the files of a dataset under any root, by the ends of their paths as released."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.errors import TrainingError


@dataclass(frozen=True)
class Part:
    """A file or folder that a dataset is made of.

    `patterns` are the ends of paths, the best first; `*` stands for anything within a name. `many`: all that match.
    """

    name: str
    patterns: tuple[str, ...]
    folder: bool = False
    optional: bool = False
    many: bool = False

    def __str__(self) -> str:
        tail = "/" if self.folder else ""
        return f"{self.name}: {self.patterns[0]}{tail}" + (" (if there)" if self.optional else "")


def clips_part(modality: str) -> Part:
    """The folder with the zip files of the clips, as most datasets have it."""
    return Part(modality, (f"feature/{modality}/zip", f"{modality}/zip"), folder=True)


@dataclass(frozen=True)
class Files:
    """Where the parts of a dataset are."""

    paths: Mapping[str, tuple[Path, ...]]

    def __getitem__(self, part: str) -> Path:
        return self.paths[part][0]

    def __contains__(self, part: str) -> bool:
        return part in self.paths

    def all(self, part: str) -> tuple[Path, ...]:
        """Every file of a part that may have many, none of one that is not there."""
        return self.paths.get(part, ())


def find_files(
    root: Path, parts: Sequence[Part], home: str, chosen: Mapping[str, Path] | None = None
) -> Files:
    """Find `parts` under `root`, where whole trees of several datasets may lie.

    Args:
        home: what a folder of this dataset is called as released; it decides between several matches.
        chosen: paths of parts, which are then not searched for.

    Raises:
        TrainingError: the root is no folder, a part is not there, or there are several and none is the obvious one.
    """
    if not root.is_dir():
        raise TrainingError(f"'{root}' is no folder")
    given = chosen or {}
    if unknown := sorted(set(given) - {part.name for part in parts}):
        known = ", ".join(part.name for part in parts)
        raise TrainingError(f"the dataset has no part '{unknown[0]}'; it has: {known}")
    folders, files = _tree(root)
    paths: dict[str, tuple[Path, ...]] = {}
    for part in parts:
        if part.name in given:
            paths[part.name] = (_existing(part, given[part.name]),)
        elif found := _matches(part, root, folders if part.folder else files, home):
            paths[part.name] = found
        elif not part.optional:
            kind = "folder" if part.folder else "file"
            wanted = " or ".join(f"'{pattern}'" for pattern in part.patterns)
            raise TrainingError(
                f"there is no {kind} {wanted} under '{root}'; give its place with --file {part.name}=PATH"
            )
    return Files(paths)


def _existing(part: Part, path: Path) -> Path:
    if not (path.is_dir() if part.folder else path.is_file()):
        raise TrainingError(f"--file {part.name}: there is no {'folder' if part.folder else 'file'} '{path}'")
    return path


def _matches(part: Part, root: Path, paths: Sequence[Path], home: str) -> tuple[Path, ...]:
    for pattern in part.patterns:
        found = [path for path in paths if path.match(pattern)]
        if len(found) > 1:
            found = [path for path in found if home in path.relative_to(root).parts] or found
        if len(found) > 1 and not part.many:
            listed = ", ".join(f"'{path}'" for path in found[:4])
            raise TrainingError(
                f"{part.name} could be any of {listed}; say which with --file {part.name}=PATH"
            )
        if found:
            return tuple(found)
    return ()


def _tree(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files under `root`, sorted; what is in a folder of clips is not looked at."""
    folders, files = [root], []
    seen = {os.path.realpath(root)}
    for place, names, here in os.walk(root, followlinks=True):
        # A link to a folder above would be followed for ever.
        names[:] = sorted(name for name in names if not _repeats(Path(place, name), seen))
        folders += [Path(place, name) for name in names]
        files += [Path(place, name) for name in sorted(here) if not name.endswith(".zip")]
    return folders, files


def _repeats(folder: Path, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    repeated = real in seen
    seen.add(real)
    return repeated
