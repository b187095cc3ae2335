"""`tessera import-released`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tessera.cli import require_extra

if TYPE_CHECKING:
    from training.released.importer import Imported

require_extra("train", "torch", "sklearn", "tensorboard", "lightning_fabric", "matplotlib")


def import_released(
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint as the papers' authors released it: DCID, H-DCID, FCID or MICU."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint to write.")],
    text_vocabulary: Annotated[
        Path | None, typer.Option(help="The authors' cnt.pkl: which words their text features keep.")
    ] = None,
    family: Annotated[
        Literal["dcid", "micu", "hdcid", "fcid"] | None,
        typer.Option(
            help="What the file must be. MICU has to be named: its tensors are called like those of DCID."
        ),
    ] = None,
) -> None:
    """Bring a released checkpoint into Tessera. Nothing in the file is run; one that would have to be is refused."""
    from rich.console import Console
    from rich.markup import escape

    from training.released.importer import import_file

    imported = import_file(file, out, family, text_vocabulary)
    console = Console(highlight=False)
    for name, text in _summary(imported, out).items():
        console.print(f"[bold]{name:>10}[/bold]  {escape(text)}", soft_wrap=True)


def _summary(imported: Imported, out: Path) -> dict[str, str]:
    """What to tell, by heading."""
    file, (tensors, numbers) = imported.file, imported.encoder
    trained = f"epoch {'unknown' if file.epoch is None else file.epoch}, {imported.step:,} steps"
    unused = (f"{part} ({count})" for part, count in imported.unused.items())
    untrained = f"{imported.fresh:,} parameters: {', '.join(imported.untrained)}"
    lines = {
        "found": f"{imported.format}: {tensors} tensors, {numbers:,} numbers in the encoder; {trained}",
        "method": f"{imported.method}, {imported.codes} codes",
        "loaded": f"{imported.loaded:,} parameters, cast to float32",
        "unused": ", ".join(unused),
        "untrained": untrained if imported.untrained else "",
        "words": "" if imported.words is None else f"{imported.words} of BERT's vocabulary",
        "written": str(out),
        "next": f"tessera toc {out} --keep 128",
    }
    if imported.may_be_micu():
        lines["note"] = "files of MICU look the same; give --family micu if this is one"
    return {name: text for name, text in lines.items() if text}
