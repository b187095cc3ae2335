"""`tessera data prepare`: features are made ahead for recipes of the generated world alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.cli import build_app
from tessera.errors import TrainingError


@pytest.mark.parametrize("recipe", ["dcid-paper", "spiked/fcid"])
def test_where_nothing_is_made_ahead_it_is_said(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is nothing to prepare for '"):
        CliRunner().invoke(
            build_app(),
            ["data", "prepare", recipe, "--cache", str(tmp_path / "cache")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "cache").exists()
