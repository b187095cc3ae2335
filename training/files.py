"""Files: complete or not there at all, whether one can be written, and the digest of one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tessera.errors import TrainingError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its final place and move it there, so that a half is never seen.

    Raises:
        OSError: it cannot be written; an older file at `path` is as it was.
    """
    building = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        building.write_bytes(content)
        building.replace(path)
    except OSError:
        _remove(building)
        raise


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(path: Path) -> None:
    """Refuse a path early, before what is to be written has been computed.

    Raises:
        TrainingError: it is a folder, or no file can be made there.
    """
    if path.is_dir():
        raise TrainingError(f"'{path}' is a folder; name a file in it")
    home = next(folder for folder in path.absolute().parents if folder.exists())
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise TrainingError(f"'{path}' cannot be written")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Where nothing can be written there may be nothing to remove either; the first error says why.
        return
