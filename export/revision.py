"""Which code made a bundle."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

_HOME = Path(__file__).resolve().parents[1]


def code_revision() -> str:
    """What git says of this code where it is a repository of its own; where it is installed, its version."""
    top = _git("rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == _HOME and (described := _git("describe", "--always", "--dirty")):
        return described
    return f"tessera {version('tessera')}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", _HOME, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
