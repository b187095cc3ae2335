"""`tessera tokenize`, `inspect` and `verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tessera.bundle import Bundle
from tessera.codes import Codes, Encoding
from tessera.errors import InputError, TesseraError
from tessera.hub import open_bundle
from tessera.limits import Truncate
from tessera.manifest import Manifest
from tessera.parity import parity_table
from tessera.scores import percent
from tessera.tokenizer import Tokenizer
from tessera.verification import verify_bundle
from tessera.windows import Modality

if TYPE_CHECKING:
    from tessera.client import Tokens

    _Tokenized = Encoding | Tokens
    _Outcome = _Tokenized | TesseraError | OSError

_out, _err = Console(), Console(stderr=True)

BundleOption = Annotated[
    str | None,
    typer.Option(
        "--bundle", "-b", help="Folder of the bundle, or hf://owner/name.  \\[default: the demo bundle]"
    ),
]
BundleArgument = Annotated[
    str | None,
    typer.Argument(help="Folder of a bundle, or hf://owner/name.  \\[default: the demo bundle]"),
]


def tokenize(
    files: Annotated[list[Path] | None, typer.Argument(help="Audio, video or .txt files.")] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="A text; may be repeated.")] = None,
    bundle: BundleOption = None,
    modality: Annotated[
        Literal["audio", "video", "text"] | None,
        typer.Option(help="What to read; 'audio' takes the sound track of a video.  \\[default: by content]"),
    ] = None,
    start: Annotated[float, typer.Option(help="Start at this second.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Stop at this second.  \\[default: the end]")] = None,
    truncate: Annotated[
        Literal["none", "start", "end"], typer.Option(help="What to drop of a clip that is too long.")
    ] = "none",
    device: Annotated[str, typer.Option(help="cpu, cuda, tensorrt, or one GPU, as cuda:1.")] = "cpu",
    server: Annotated[
        str | None, typer.Option(help="Address of a server that does the work, instead of a bundle here.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json/--table", help="One JSON document a line, or a table.")
    ] = False,
) -> None:
    """Turn files and texts into codes. A file that cannot be read is reported and the next one is taken."""
    if not files and not text:
        raise typer.BadParameter("give at least one file, or --text")
    if server and bundle:
        raise typer.BadParameter("a server has its own bundle: give --server or --bundle")
    sources: list[Path | str] = [*(files or []), *(text or [])]
    excerpt = _Excerpt(modality, start, end, truncate)
    outcomes = (
        _tokenized_there(server, sources, excerpt)
        if server
        else _tokenized_here(Tokenizer.load(bundle, device=device), sources, excerpt)
    )
    failed = False
    for source, outcome in outcomes:
        if isinstance(outcome, Exception):
            failed = True
            message = outcome.strerror or "cannot be read" if isinstance(outcome, OSError) else str(outcome)
            _err.print(f"{source}: {message}", style="red", markup=False, soft_wrap=True)
        else:
            _print_json(source, outcome) if json else _out.print(_codes_table(source, outcome))
    if failed:
        raise typer.Exit(1)


class _Excerpt(NamedTuple):
    """What to read of each source."""

    modality: Modality | None
    start_sec: float
    end_sec: float | None
    truncate: Truncate


def _tokenized_here(
    tokenizer: Tokenizer, sources: list[Path | str], excerpt: _Excerpt
) -> Iterator[tuple[Path | str, _Outcome]]:
    outcome: _Outcome
    for source in _progress(sources):
        try:
            if isinstance(source, str):
                outcome = tokenizer.encode_text(source, truncate=excerpt.truncate)
            else:
                outcome = tokenizer.encode(source, **excerpt._asdict())
        except (InputError, OSError) as error:
            outcome = error
        yield source, outcome


def _tokenized_there(
    server: str, sources: list[Path | str], excerpt: _Excerpt
) -> Iterator[tuple[Path | str, _Outcome]]:
    try:
        from tessera.client import Client, Media, Retries, Text
    except ImportError as missing:
        raise TesseraError(str(missing)) from None
    inputs = [Text(source) if isinstance(source, str) else Media(source, *excerpt[:3]) for source in sources]
    try:
        hasty = Client(server, retries=Retries(most=2))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with hasty:
        hasty.limits()  # a wrong address is told soon; a server that is full later is waited for
    with Client(server) as client:
        outcomes = client.tokenize_files(inputs, returns=["margins"], truncate=excerpt.truncate)
        for source, (_, outcome) in zip(sources, outcomes, strict=True):
            yield source, outcome


def inspect(bundle: BundleArgument = None) -> None:
    """Show what a bundle is: its model, time grid, graphs, parity and scores."""
    loaded = open_bundle(bundle)
    manifest = loaded.manifest
    facts = Table(title=manifest.name, show_header=False)
    kept = ", ".join(f"{len(channels)} of {manifest.dim}" for channels in manifest.kept_channels)
    grid = manifest.time_grid
    rows = {
        "revision": loaded.revision,
        "family": manifest.family,
        "codes": " x ".join(map(str, manifest.codebook_sizes)) + (", with clip codes" * manifest.clip_codes),
        "kept channels": kept,
        "precision": manifest.precision,
        "modalities": ", ".join(manifest.modalities),
        "time grid": f"{grid.hop_sec:g} s a segment, windows of {grid.window_segments}",
        "data": manifest.provenance.data,
        "licence": manifest.licence,
    }
    for name, value in rows.items():
        facts.add_row(name, value)
    _out.print(facts)
    graphs = Table("graph", "kB", "inputs", "outputs", title="graphs")
    for name, graph in manifest.graphs.items():
        sides = (
            "\n".join(f"{t.name} {list(t.shape)} {t.dtype}" for t in s) for s in (graph.inputs, graph.outputs)
        )
        graphs.add_row(
            name, f"{len(loaded.graph(name)) / 1000:.0f}", *(side.replace("[", r"\[") for side in sides)
        )
    _out.print(graphs)
    _out.print(parity_table(manifest))
    if directions := manifest.provenance.scores.get("directions"):
        _out.print(_scores_table(directions))


def verify(
    bundle: BundleArgument = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The checkpoint it was made of: prove again that its codes are the model's."),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="With --checkpoint: the backbones, as `tessera export` takes them."),
    ] = None,
) -> None:
    """Check all files of a bundle, and that its graphs agree with each other, with its codebook and with its model."""
    loaded = open_bundle(bundle)
    table = Table("modality", "check", "codes", "differ", "largest margin", title=loaded.manifest.name)
    for modality, comparisons in verify_bundle(loaded).items():
        for name, found in comparisons.items():
            differ, margin = str(found.mismatches), f"{found.largest_margin:.2g}"
            table.add_row(modality, name, str(found.codes), differ, margin)
    _out.print(table)
    if checkpoint is not None:
        _out.print(parity_table(_proof()(loaded, checkpoint, backbone or [])))
    _out.print(f"{loaded.manifest.name} is whole and runs: {', '.join(loaded.manifest.modalities)}")


def _proof() -> Callable[[Bundle, Path, list[str]], Manifest]:
    """What compares a bundle with its checkpoint: the room that makes bundles brings it."""
    try:
        (entry,) = entry_points(group="tessera.proofs")
        proof: Callable[[Bundle, Path, list[str]], Manifest] = entry.load()
    except (ValueError, ImportError):
        raise TesseraError("--checkpoint needs more packages: pip install 'tessera[train]'") from None
    return proof


def _progress(sources: list[Path | str]) -> Iterator[Path | str]:
    if len(sources) < 3 or not _err.is_terminal:
        return iter(sources)
    return iter(track(sources, description="tokenizing", console=_err))


def _print_json(source: Path | str, encoding: Codes) -> None:
    print(orjson.dumps({"source": str(source), **encoding.to_json()}).decode())


def _scores_table(directions: Any) -> Table:
    table = Table("probe fitted on -> tested on", "accuracy", title="held-out clips")
    for name, value in directions.items():
        table.add_row(name, percent(value))
    return table


def _codes_table(source: Path | str, encoding: _Tokenized) -> Table:
    levels = encoding.codes.shape[1]
    heads = ["code"] if levels == 1 else [f"level {level}" for level in range(1, levels + 1)]
    summary = f"{encoding.modality}"
    if encoding.duration_sec is not None:
        summary += f", {encoding.duration_sec:.1f} s"
    if encoding.clip_codes is not None:
        summary += f", clip code {' '.join(map(str, encoding.clip_codes))}"
    margins = encoding.margins
    assert margins is not None, "margins are asked for. This is a bug."
    table = Table("segment", *heads, "margin", title=str(source), caption=summary)
    for index, (codes, sure) in enumerate(zip(encoding.codes, margins, strict=True)):
        table.add_row(str(index), *map(str, codes), f"{sure.min():.3f}")
    return table
