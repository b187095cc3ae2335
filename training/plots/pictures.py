"""Pictures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from tessera.errors import TrainingError
from training.files import write_whole

SUFFIXES = (".png", ".svg", ".pdf")


def require_picture_path(path: Path) -> None:
    """Refuse a path early, before what is to be drawn has been computed.

    Raises:
        TrainingError: its suffix is of no kind of picture that is written, or it is a folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TrainingError(f"a picture is written as {', '.join(SUFFIXES)}, not as '{path.name}'")
    if path.is_dir():
        raise TrainingError(f"'{path}' is a folder; name a file in it")


def write_picture(path: Path, figure: Figure) -> None:
    """Write `figure` to `path` in the format of its suffix.

    Raises:
        TrainingError: as `require_picture_path`, or it cannot be written.
    """
    require_picture_path(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower())
    try:
        write_whole(path, picture.getvalue())
    except OSError:
        raise TrainingError(f"'{path}' cannot be written") from None
