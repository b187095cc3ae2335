"""The `tessera` command. Each room registers its subcommands as entry points, so a serving image has fewer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from tessera.errors import TesseraError

_ORDER = (
    "serve",
    "key",
    "tokenize",
    "inspect",
    "verify",
    "train",
    "evaluate",
    "toc",
    "export",
    "triton",
    "push",
    "pull",
    "import-released",
    "results",
    "data",
    "features",
    "bench",
)


class MissingExtra(ImportError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, extra: str) -> None:
        super().__init__(f"this command needs more packages: pip install 'tessera[{extra}]'")


def require_extra(extra: str, *modules: str) -> None:
    """To be called at the top of a module of commands, before it is worth importing.

    Raises:
        MissingExtra: one of `modules` is not installed.
    """
    if any(find_spec(module) is None for module in modules):
        raise MissingExtra(extra)


def main() -> None:
    """Run `tessera`. An error that Tessera raises on purpose is one sentence on stderr and exit status 2.

    So is a file or folder that cannot be used.
    """
    try:
        build_app()()
    except TesseraError as error:
        print(f"tessera: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:
            raise
        print(f"tessera: '{error.filename}': {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("tessera"))
        raise typer.Exit


def build_app() -> typer.Typer:
    """The application with every command whose packages are installed."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Audio, video and text as one shared alphabet of discrete codes.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for entry in sorted(entry_points(group="tessera.commands"), key=_position):
        _register(app, entry)
    # Each room measures itself, under one name.
    if benches := sorted(entry_points(group="tessera.bench"), key=_position):
        bench = typer.Typer(no_args_is_help=True, help="Measure what is done against what could be done.")
        bench.callback()(_bench)
        for entry in benches:
            _register(bench, entry)
        app.add_typer(bench, name="bench")
    return app


def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


def _bench() -> None:
    """Keep a bench a subcommand, however few there are."""


def _position(entry: EntryPoint) -> int:
    return _ORDER.index(entry.name) if entry.name in _ORDER else len(_ORDER)


def _register(app: typer.Typer, entry: EntryPoint) -> None:
    try:
        command: Any = entry.load()
    except MissingExtra as missing:
        app.command(entry.name, hidden=True, context_settings={"ignore_unknown_options": True})(
            _unavailable(str(missing))
        )
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _unavailable(sentence: str) -> Callable[..., None]:
    def command(arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise TesseraError(sentence)

    return command
