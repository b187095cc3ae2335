"""`tessera data convert`, `verify` and `info`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.errors import TrainingError
from training.data.archives.catalogue import FORMATS

if TYPE_CHECKING:
    from rich.console import Console

    from training.data.archives.dataset import Format
    from training.data.archives.faults import Skipped
    from training.data.archives.files import Files

_SHOWN = 20
_EPILOG = "\n\n".join(
    [
        "The datasets, and the files of each under ROOT as they were released:",
        *(f"{f.name} - {f.says}. {'; '.join(map(str, f.parts))}" for f in FORMATS.values()),
    ]
)


class VideoType(StrEnum):
    """How video is stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


FileOption = Annotated[
    list[str] | None,
    typer.Option("--file", help="PART=PATH where a part is not found by its released name. Repeatable."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Threads that read archives; as many as cores by default, 8 at most.", min=1),
]
PartialOption = Annotated[bool, typer.Option("--partial", help="Fewer clips than the dataset has are fine.")]
StoreArgument = Annotated[Path, typer.Argument(help="A feature store.")]


def convert(
    dataset: Annotated[str, typer.Argument(help="One of the names below.")],
    root: Annotated[Path, typer.Argument(help="A folder with the released files somewhere beneath it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the store to write.")],
    text: Annotated[
        str,
        typer.Option(
            help="Backbone of sentences: classic, bert:FOLDER (or its name on the hub), with ,words=cnt.pkl only the "
            "words of the papers' features; or none."
        ),
    ] = "classic",
    video_dtype: Annotated[
        VideoType, typer.Option(help="float16 takes half of the disk.")
    ] = VideoType.FLOAT32,
    file: FileOption = None,
    workers: WorkersOption = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out clips that cannot be used and list them (exit status 1)."),
    ] = False,
    partial: PartialOption = False,
) -> None:
    """Turn a released dataset of features into a store, without running anything that is in its pickles.

    Clips of another length are brought to that of the dataset: the last second is repeated, or the end is cut.
    """
    from training.data.archives.conversion import Conversion
    from training.data.archives.conversion import convert as run

    format, console = _format(dataset), _console()
    files = _files(format, root, file)
    choices = Conversion(text, video_dtype.value, skip_bad, partial, workers or _workers())
    skipped = run(format, files, out, choices, console)
    _say_size(out, format, console)
    print(out)
    if skipped:
        _say_skipped(skipped, out, console)
        raise typer.Exit(1)


def verify(
    store: StoreArgument,
    against: Annotated[
        Path | None, typer.Option(help="The released files: read each clip again and compare it.")
    ] = None,
    file: FileOption = None,
    workers: WorkersOption = None,
    partial: PartialOption = False,
) -> None:
    """Read every number of a store and check it; exit status 1 if something is wrong."""
    from rich.table import Table

    from training.data.archives.verification import compare
    from training.data.archives.verification import verify as run
    from training.data.store import FeatureStore

    opened, console = FeatureStore.load(store), _console()
    format = FORMATS.get(opened.name)
    checks = run(opened, format, partial, console)
    if against:
        format = _format(opened.name)
        files = _files(format, against, file)
        checks += compare(opened, format, files, workers or _workers(), console)
    table = Table("check", "", "found", title=f"{opened.name} in {store}")
    for check in checks:
        table.add_row(check.name, "ok" if check.passed else "[bold red]WRONG[/]", check.found)
    _output().print(table)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def info(store: StoreArgument) -> None:
    """Print what is in a store."""
    from rich.table import Table

    from training.data.store import FeatureStore

    opened = FeatureStore.load(store)
    manifest = opened.manifest
    table = Table("", "", title=str(store), show_header=False)
    table.add_row("dataset", f"{opened.name} ({manifest.task})")
    table.add_row("clips", f"{len(opened):,}")
    table.add_row("classes", f"{len(opened.classes)}")
    for split in opened.splits:
        table.add_row(f"split {split}", f"{len(opened.rows[split]):,}")
    for name, array in opened.arrays.items():
        said = f"{' x '.join(map(str, array.shape))} {array.dtype}, {array.nbytes / 1e6:,.1f} MB"
        table.add_row(name, said)
    for modality, says in manifest.features.items():
        table.add_row(f"{modality} is", says)
    for heading, note in manifest.notes.items():
        table.add_row(heading, note)
    _output().print(table)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=_EPILOG)(convert)
    app.command()(verify)
    app.command()(info)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise TrainingError(f"'{name}' is no released dataset; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _files(format: Format, root: Path, given: list[str] | None) -> Files:
    from training.data.archives.files import find_files

    chosen = {}
    for choice in given or []:
        part, equals, path = choice.partition("=")
        if not (equals and path):
            raise TrainingError(f"--file is written PART=PATH, not '{choice}'")
        chosen[part] = Path(path)
    return find_files(root, format.parts, format.home, chosen)


def _workers() -> int:
    from training.data.archives.conversion import Conversion

    return Conversion().workers


def _say_size(out: Path, format: Format, console: Console) -> None:
    """A dataset that is not as large as released is no error here, but nobody should overlook it."""
    from rich.markup import escape

    from training.data.archives.verification import check_size
    from training.data.store import FeatureStore

    for check in check_size(FeatureStore.load(out), format, partial=False):
        if not check.passed:
            console.print(f"[bold yellow]{check.name}[/]: {escape(check.found)}", soft_wrap=True)


def _say_skipped(skipped: list[Skipped], out: Path, console: Console) -> None:
    from rich.markup import escape

    console.print(
        f"[bold red]{len(skipped)} clips were left out[/] (all in {escape(str(out / 'skipped.csv'))}):"
    )
    for clip in skipped[:_SHOWN]:
        console.print(escape(f"  {clip.where}: {clip.reason}"), soft_wrap=True)


def _console() -> Console:
    """For what accompanies a result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _output() -> Console:
    from rich.console import Console

    return Console(highlight=False)
