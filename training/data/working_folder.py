"""Folders that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tessera.errors import TrainingError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if need be; the system lets go of it when the process ends, however it ends.

    Who holds it may remove it.

    Raises:
        TrainingError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not (_taken(descriptor) and _still_there(folder, descriptor)):
            raise TrainingError(f"another process is writing '{folder}'; wait for it")
        yield
    finally:
        os.close(descriptor)


def empty(folder: Path) -> None:
    """Remove what is in a folder, and leave the folder, which somebody may hold."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _still_there(folder: Path, descriptor: int) -> bool:
    """Who held it a moment ago may have removed it, and a third may have made another."""
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except OSError:
        return False
