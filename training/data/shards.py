"""Finished clips beside the target of an extraction, one file each, so that one that was ended can go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from tessera.errors import TrainingError
from training.data.working_folder import empty
from training.files import write_whole

_SETTINGS = "settings.json"


class Shards:
    """The folder `.<target>.clips`: what was asked for, and a file for each clip that is done.

    A clip goes by the digest of its row (`ClipRow.digest`), so that other rows of the manifest may change.

    Raises:
        TrainingError: the folder holds clips of other settings.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        self.folder = shards_folder(target)
        path = self.folder / _SETTINGS
        asked = json.loads(json.dumps(settings))
        if not self.done():
            self.folder.mkdir(parents=True, exist_ok=True)
            empty(self.folder)
            write_whole(path, json.dumps(asked, indent=1).encode())
        elif differing := _difference(path, asked):
            raise TrainingError(
                f"'{self.folder}' holds finished clips of an extraction with another {differing}; "
                "ask for the same to go on with it, or delete it to start anew"
            )

    def done(self) -> set[str]:
        """The digests of clips that are finished. A damaged file, as a crash of the machine leaves it, is removed."""
        return {path.stem for path in self.folder.glob("*.safetensors") if _whole(path)}

    def path(self, digest: str) -> Path:
        """Where a clip is kept."""
        return self.folder / f"{digest}.safetensors"

    def lengths(self, digest: str) -> dict[str, int]:
        """The length of each array of a clip; the arrays are not read."""
        with safe_open(self.path(digest), framework="numpy") as arrays:
            return {name: int(arrays.get_slice(name).get_shape()[0]) for name in arrays.keys()}  # noqa: SIM118

    def load(self, digest: str) -> dict[str, NDArray[Any]]:
        """The arrays of a clip."""
        return load(self.path(digest).read_bytes())

    def text(self, name: str, make: Callable[[], str]) -> str:
        """What `make` gave the first time it was asked."""
        path = self.folder / name
        if not path.exists():
            write_whole(path, make().encode())
        return path.read_text()

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder)


def shards_folder(target: Path) -> Path:
    """Where the finished clips of an extraction to `target` are."""
    return target.with_name(f".{target.name}.clips")


def save_shard(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one clip, whole or not at all."""
    write_whole(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def _whole(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy"):
            return True
    except SafetensorError:
        path.unlink()
        return False


def _difference(path: Path, asked: Mapping[str, Any]) -> str | None:
    """What of the settings in a file is not as asked; any of them, if there is no such file."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = {}
    if not isinstance(found, dict):
        found = {}
    return next((name for name in asked if found.get(name) != asked[name]), None)
