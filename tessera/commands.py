"""`tessera tokenize`, `inspect` and `verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tessera.bundle import Bundle
from tessera.codes import Encoding
from tessera.errors import InputError, TesseraError
from tessera.hub import open_bundle
from tessera.manifest import Manifest
from tessera.parity import parity_table
from tessera.scores import percent
from tessera.tokenizer import Tokenizer
from tessera.verification import verify_bundle

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
    json: Annotated[
        bool, typer.Option("--json/--table", help="One JSON document a line, or a table.")
    ] = False,
) -> None:
    """Turn files and texts into codes. A file that cannot be read is reported and the next one is taken."""
    if not files and not text:
        raise typer.BadParameter("give at least one file, or --text")
    tokenizer = Tokenizer.load(bundle, device=device)

    def encode(source: Path | str) -> Encoding:
        if isinstance(source, str):
            return tokenizer.encode_text(source, truncate=truncate)
        return tokenizer.encode(source, modality, start_sec=start, end_sec=end, truncate=truncate)

    failed = False
    for source in _progress([*(files or []), *(text or [])]):
        try:
            encoding = encode(source)
        except InputError as error:
            failed = True
            _err.print(f"{source}: {error.message}", style="red", markup=False, soft_wrap=True)
        except OSError as error:
            failed = True
            _err.print(
                f"{source}: {error.strerror or 'cannot be read'}", style="red", markup=False, soft_wrap=True
            )
        else:
            _print_json(source, encoding) if json else _out.print(_codes_table(source, encoding))
    if failed:
        raise typer.Exit(1)


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


def _print_json(source: Path | str, encoding: Encoding) -> None:
    print(orjson.dumps({"source": str(source), **encoding.to_json()}).decode())


def _scores_table(directions: Any) -> Table:
    table = Table("probe fitted on -> tested on", "accuracy", title="held-out clips")
    for name, value in directions.items():
        table.add_row(name, percent(value))
    return table


def _codes_table(source: Path | str, encoding: Encoding) -> Table:
    levels = encoding.codes.shape[1]
    heads = ["code"] if levels == 1 else [f"level {level}" for level in range(1, levels + 1)]
    summary = f"{encoding.modality}"
    if encoding.duration_sec is not None:
        summary += f", {encoding.duration_sec:.1f} s"
    if encoding.clip_codes is not None:
        summary += f", clip code {' '.join(map(str, encoding.clip_codes))}"
    table = Table("segment", *heads, "margin", title=str(source), caption=summary)
    for index, (codes, margins) in enumerate(zip(encoding.codes, encoding.margins, strict=True)):
        table.add_row(str(index), *map(str, codes), f"{margins.min():.3f}")
    return table
