"""From the start of the process to ready: with nothing prepared, and once more."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.bench.server import server
from tessera.bundle import Bundle


def startup_seconds(bundle: Bundle) -> dict[str, float]:
    """Seconds until ready: `cold`, no module compiled and no file of the bundle cached, and `warm`, the next start."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for path in _files(bundle):
            _forget(path)
        figures = {}
        for state in ("cold", "warm"):
            with server(str(bundle.folder), environment=environment) as running:
                figures[state] = round(running.ready_sec, 3)
        return figures


def _files(bundle: Bundle) -> Iterator[Path]:
    return (path for path in bundle.folder.iterdir() if path.is_file())


def _forget(path: Path) -> None:
    """Ask the system to drop the pages of a file."""
    with suppress(AttributeError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
