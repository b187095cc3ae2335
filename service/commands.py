"""`tessera serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tessera.errors import TesseraError


def serve(
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle",
            "-b",
            help="Folder, or hf://owner/name; again for another. Behind it: ,name=N ,device=D ,threads=T ,weight=W  "
            "\\[default: the demo bundle]",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  \\[default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  \\[default: 8000]")] = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(
            help="Answer only to keys of this file; `tessera key new` makes them.  \\[default: to all]"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, tensorrt, or one GPU, as cuda:1.  \\[default: cpu]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads of a graph.  \\[default: the cores it may use]")
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Serve /metrics here only.  \\[default: the main port]")
    ] = None,
    frontends: Annotated[
        int | None,
        typer.Option(
            help="Processes that speak HTTP and decode, before one that owns the device.  \\[default: 1, for all]"
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="What is logged.  \\[default: info]"),
    ] = None,
) -> None:
    """Serve a bundle over HTTP. Each option and every limit is also a setting, such as TESSERA_PORT."""
    from service.bundles import SEPARATOR
    from service.logs import say_last
    from service.settings import Settings

    settings = Settings.load(
        bundle=SEPARATOR.join(bundle) if bundle else None,
        host=host,
        port=port,
        api_keys_file=api_keys_file,
        device=device,
        threads=threads,
        admin_port=admin_port,
        frontends=frontends,
        log_level=log_level,
    )
    try:
        if settings.frontends > 1:
            from service.frontends.supervisor import serve_with_front_ends

            serve_with_front_ends(settings)
        else:
            from service.server import serve as serve_alone

            serve_alone(settings)
    except TesseraError as error:
        say_last(error)
        raise typer.Exit(2) from None
