"""`tessera features`, and manifests for it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import typer
from typer.testing import CliRunner

from training.data.features_command import features

COLUMNS = ("id", "path", "caption", "label", "split")


def write_manifest(path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str] = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def run(*arguments: object, fails: bool = False, status: int = 0) -> str:
    """What the command says, in one process and its workers."""
    app = typer.Typer()
    app.command()(features)
    result = CliRunner().invoke(app, [*map(str, arguments), "--workers", "1"])
    if fails:
        assert result.exception is not None
        return str(result.exception)
    assert result.exit_code == status, result.exception
    return " ".join(result.output.split())
