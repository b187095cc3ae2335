"""Files that are complete, or not there at all, and the digest of one."""

from __future__ import annotations

import hashlib
from pathlib import Path


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


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Where nothing can be written there may be nothing to remove either; the first error says why.
        return
