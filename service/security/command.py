"""`tessera key`."""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Annotated

import typer
from pydantic import ValidationError

from service.security.keys import Key, new_secret
from service.validation import faults

key = typer.Typer(no_args_is_help=True, help="Keys of a server.")


@key.callback()
def _key() -> None:
    """Keep `new` a subcommand, however few there are."""


@key.command()
def new(
    name: Annotated[str, typer.Option(help="Whose it is; it is in logs and metrics.")],
    scopes: Annotated[
        str, typer.Option(help="What it may: infer, write, admin, separated by commas.")
    ] = "infer",
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Its own rate.  \\[default: TESSERA_KEY_REQUESTS_PER_MINUTE]")
    ] = None,
    segments_per_minute: Annotated[
        float | None, typer.Option(help="Its own rate.  \\[default: TESSERA_KEY_SEGMENTS_PER_MINUTE]")
    ] = None,
) -> None:
    """Make a key. The line for TESSERA_API_KEYS_FILE goes to stdout; the key to stderr, once: it is kept nowhere."""
    secret = new_secret()
    try:
        made = Key.model_validate(
            {
                "name": name,
                "sha256": sha256(secret.encode()).hexdigest(),
                "scopes": scopes.split(","),
                "requests_per_minute": requests_per_minute,
                "segments_per_minute": segments_per_minute,
            }
        )
    except ValidationError as error:
        fault = faults(error)[0]
        raise typer.BadParameter(f"{fault.param} {fault.sentence}") from None
    print(made.line)
    print(f"the key of '{name}', shown this once:\n  {secret}", file=sys.stderr)
