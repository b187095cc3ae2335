"""`tessera features`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.cli import require_extra
from tessera.errors import TrainingError
from tessera.limits import Limits
from tessera.windows import MODALITIES, Modality
from training.commands import DeviceName

if TYPE_CHECKING:
    from training.data.extraction import Extracted
    from training.data.manifest import ClipManifest

require_extra("train", "torch", "sklearn", "tensorboard", "lightning_fabric", "matplotlib")

NONE = "none"


def features(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl file, a row a clip: path (sound and picture) or audio or video, caption, label, "
            "split, id. Paths are relative to it."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the feature store to write.")],
    audio: Annotated[
        str | None,
        typer.Option(
            help="classic, none, or vggish:FILE and what is to differ of ,relu=yes ,pca=FILE ,rounding=truncate"
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(
            help="classic, none, or vgg19:FILE and what is to differ of ,convention=torchvision ,frames=16"
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="classic, none, or bert:FOLDER or its name on the hub, and ,words=FILE to keep listed words alone"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset.  \\[default: that of OUT]")] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out clips that cannot be read and list them (exit status 1)."),
    ] = False,
    max_megabytes: Annotated[
        int, typer.Option(help="Largest file of a clip.", min=1)
    ] = Limits().max_media_bytes // 2**20,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes, each with its own copy of the backbones.  \\[default: cores]", min=1),
    ] = None,
    device: Annotated[
        DeviceName, typer.Option(help="Where the backbones compute; auto takes a GPU where there is one.")
    ] = DeviceName.AUTO,
) -> None:
    """Extract features of raw clips. Stop it at any time; the same command goes on with what is finished.

    Of a clip of more than ten seconds the first ten are taken; of shorter ones the last second is repeated.
    """
    from rich.console import Console

    from training.data.clip_reader import ReaderSettings
    from training.data.extraction import Extraction, extract
    from training.data.manifest import read_manifest

    clips = read_manifest(manifest)
    extraction = Extraction(
        manifest=clips,
        name=name or out.resolve().name,
        settings=ReaderSettings(
            choices=_choices(clips, {"audio": audio, "video": video, "text": text}),
            limits=replace(Limits(), max_media_bytes=max_megabytes * 2**20),
            device=_device(device),
        ),
        workers=workers or os.cpu_count() or 1,
        skip_bad=skip_bad,
    )
    console = Console(stderr=True, highlight=False)
    if clips.unused:
        console.print(f"columns without a use here: {', '.join(clips.unused)}", markup=False)
    extracted = extract(extraction, out, console)
    for clip, reason in extracted.left_out.items():
        console.print(f"left out: clip '{clip}': {reason}", style="red", markup=False, soft_wrap=True)
    console.print(_summary(extracted), markup=False, soft_wrap=True)
    print(out)
    if extracted.left_out:
        raise typer.Exit(1)


def _choices(manifest: ClipManifest, asked: dict[Modality, str | None]) -> dict[Modality, str]:
    """The backbone of each modality that is there and wanted."""
    choices: dict[Modality, str] = {}
    for modality in MODALITIES:
        choice = asked[modality]
        if choice not in (None, NONE) and modality not in manifest.modalities:
            raise TrainingError(f"--{modality} is given, but the manifest has no {modality}")
        if choice != NONE and modality in manifest.modalities:
            choices[modality] = choice or "classic"
    if not choices:
        raise TrainingError("no modality is left to extract features of")
    return choices


def _device(wanted: DeviceName) -> str:
    import torch

    found = torch.cuda.is_available()
    if wanted is DeviceName.CUDA and not found:
        raise TrainingError("a CUDA device was asked for, this machine has none")
    if wanted is DeviceName.AUTO:
        return "cuda" if found else "cpu"
    return wanted.value


def _summary(extracted: Extracted) -> str:
    store = extracted.store
    parts = [f"{store.clips} clips"]
    if store.segments:
        parts.append(f"{store.segments} s each")
    if store.filled:
        parts.append(f"{store.filled} of them shorter and filled up")
    if extracted.resumed:
        parts.append(f"{extracted.resumed} finished before")
    return ", ".join(parts)
