"""Finished clips beside the target of an extraction, one file each, so that a killed one can go on."""

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
from training.files import write_whole

_SETTINGS = "settings.json"


class Shards:
    """The folder `.<target>.clips`: what was asked for, and a file for each row of the manifest that is done.

    Raises:
        TrainingError: the folder holds clips of other settings.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        self.folder = target.with_name(f".{target.name}.clips")
        path = self.folder / _SETTINGS
        asked = json.loads(json.dumps(settings))
        if differing := _difference(path, asked):
            if self.done():
                raise TrainingError(
                    f"'{self.folder}' holds finished clips of an extraction with another {differing}; "
                    "ask for the same to go on with it, or delete it to start anew"
                )
            shutil.rmtree(self.folder, ignore_errors=True)
            write_whole(path, json.dumps(asked, indent=1).encode())

    def done(self) -> set[int]:
        """The rows that are finished. A damaged file, as a crash of the machine leaves it, is removed."""
        return {
            int(path.stem)
            for path in self.folder.glob("*.safetensors")
            if path.stem.isdecimal() and _whole(path)
        }

    def path(self, row: int) -> Path:
        """Where a row is kept."""
        return self.folder / f"{row:08d}.safetensors"

    def lengths(self, row: int) -> dict[str, int]:
        """The length of each array of a row; the arrays are not read."""
        with safe_open(self.path(row), framework="numpy") as arrays:
            return {name: int(arrays.get_slice(name).get_shape()[0]) for name in arrays.keys()}  # noqa: SIM118

    def load(self, row: int) -> dict[str, NDArray[Any]]:
        """The arrays of a row."""
        return load(self.path(row).read_bytes())

    def text(self, name: str, make: Callable[[], str]) -> str:
        """What `make` gave the first time it was asked."""
        path = self.folder / name
        if not path.exists():
            write_whole(path, make().encode())
        return path.read_text()

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder)


def save_shard(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one row, whole or not at all."""
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
