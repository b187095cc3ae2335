"""`tessera export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from export.settings import OPSET, SEGMENTS_COMPARED, ExportSettings
from tessera.cli import require_extra
from tessera.errors import TrainingError
from tessera.replacement import require_place

if TYPE_CHECKING:
    from rich.console import Console

require_extra("train", "torch", "onnx", "onnxscript")


class PrecisionName(StrEnum):
    """What the encoders of the codes graphs compute in."""

    FP32 = "fp32"
    FP16 = "fp16"


def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint, or a run: its latest checkpoint is taken.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the bundle; an older bundle is replaced.")
    ] = Path("bundle"),
    released: Annotated[
        Path | None,
        typer.Option(help="In place of a checkpoint: a file as the papers' authors released it."),
    ] = None,
    family: Annotated[
        Literal["dcid", "micu", "hdcid", "fcid"] | None,
        typer.Option(help="What the released file must be; MICU has to be named."),
    ] = None,
    text_vocabulary: Annotated[
        Path | None, typer.Option(help="The authors' cnt.pkl: which words their text features keep.")
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            help="The backbone of a modality and its weights, once for each: audio=vggish:FILE, video=vgg19:FILE, "
            "text=bert:FOLDER, with their options; or classic, which models of the generated world have anyway."
        ),
    ] = None,
    vggish: Annotated[str | None, typer.Option(help="Short for --backbone audio=vggish:...")] = None,
    vgg19: Annotated[str | None, typer.Option(help="Short for --backbone video=vgg19:...")] = None,
    bert: Annotated[str | None, typer.Option(help="Short for --backbone text=bert:...")] = None,
    keep: Annotated[
        list[int] | None,
        typer.Option(
            help="Channels that TOC keeps; of a model with several codebooks once for all, or for each."
        ),
    ] = None,
    toc_lambda: Annotated[
        float, typer.Option(help="TOC's weight of variance against similarity.", min=0.0, max=1.0)
    ] = 0.3,
    precision: Annotated[
        PrecisionName, typer.Option(help="fp16 is a variant: how often its codes agree is measured.")
    ] = PrecisionName.FP32,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = OPSET,
    segments: Annotated[
        int,
        typer.Option(
            help="Random segments of each modality that are compared; H-DCID's pictures take minutes.", min=1
        ),
    ] = SEGMENTS_COMPARED,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.  \\[default: the recipe's]")] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="Licence of the weights.  \\[default: unknown; Apache-2.0 where the generated world made them]"
        ),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="What `tessera evaluate` wrote, for the model card.")
    ] = None,
    triton: Annotated[
        Path | None, typer.Option(help="Folder of a model repository of Triton to write as well.")
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle that serves, proving that its codes are the model's codes."""
    from rich.console import Console

    from export.bundle import export_bundle
    from export.choices import long_forms, parse_choices
    from export.repository import require_repository, write_repository
    from export.scores import read_scores
    from export.source import open_source
    from tessera.parity import parity_table

    require_place(out)
    console = Console()
    choices = parse_choices([*(backbone or []), *long_forms(vggish, vgg19, bert)], text_vocabulary)
    settings = ExportSettings(
        name, licence, read_scores(scores) if scores else {}, precision.value, opset, segments
    )
    with _checkpoint(checkpoint, released, family, text_vocabulary, console) as folder:
        source = open_source(folder, keep or (), toc_lambda, choices)
        if triton is not None:
            require_repository(triton, name or source.recipe.name, source.modalities)
        bundle = export_bundle(source, out, settings, console)
    console.print(parity_table(bundle.manifest))
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"{out}: {bundle.manifest.name}, {size / 1e6:.1f} MB, {bundle.revision[:19]}...")
    if triton is not None:
        console.print(f"{triton}: {', '.join(write_repository(bundle, triton))}")


@contextmanager
def _checkpoint(
    checkpoint: Path | None,
    released: Path | None,
    family: Literal["dcid", "micu", "hdcid", "fcid"] | None,
    vocabulary: Path | None,
    console: Console,
) -> Iterator[Path]:
    """The checkpoint that was named, or for a while the one that a released file is imported to."""
    from training.checkpoint import latest_checkpoint
    from training.released.importer import import_file

    if (checkpoint is None) == (released is None):
        raise TrainingError("give a checkpoint, or a released file with --released")
    if checkpoint is not None:
        yield latest_checkpoint(checkpoint)
        return
    assert released is not None, "one of the two is there. This is a bug."
    with TemporaryDirectory(prefix="tessera-") as work:
        imported = import_file(released, Path(work) / "checkpoint", family, vocabulary)
        console.print(
            f"found {imported.format}, {imported.codes} codes, {imported.step:,} steps", markup=False
        )
        if imported.may_be_micu():
            console.print("files of MICU look the same; give --family micu if this is one")
        yield Path(work) / "checkpoint"
