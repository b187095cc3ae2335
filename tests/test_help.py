"""What `--help` says reaches the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer.main
from typer.testing import CliRunner

from tessera.cli import build_app


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield (*path, name), command
        yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(build_app())))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_all_it_has_to_say(path: tuple[str, ...]) -> None:
    """Brackets that are not escaped vanish: rich takes them for markup."""
    shown = CliRunner().invoke(build_app(), [*path, "--help"], env={"COLUMNS": "600", "TERM": "dumb"}).output
    text = " ".join(shown.replace("│", " ").split())
    for option in getattr(COMMANDS[path], "params", ()):
        written = (getattr(option, "help", None) or "").replace("\\[", "[")
        assert " ".join(written.split()) in text
