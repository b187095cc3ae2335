"""Files that are complete, or not there at all."""

from __future__ import annotations

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


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Where nothing can be written there may be nothing to remove either; the first error says why.
        return
