"""A released dataset becomes a feature store."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from tessera.errors import TrainingError
from training.data.archives.dataset import Clip, Dataset, Format
from training.data.archives.faults import Faults, Skipped
from training.data.archives.files import Files
from training.data.archives.reading import Preparation, Ready
from training.data.archives.texts import TextReader, embedded, open_text
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter
from training.files import sha256_of_file


@dataclass(frozen=True)
class Conversion:
    """Choices of a conversion."""

    text: str = "classic"
    video_dtype: Literal["float32", "float16"] = "float32"
    skip_bad: bool = False
    partial: bool = False
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))


def convert(
    format: Format, files: Files, target: Path, choices: Conversion, console: Console
) -> list[Skipped]:
    """Write the store of a dataset; what was left out is returned, and listed in its `skipped.csv`.

    Rows are in the order of the splits, so that each split can be read without copying it.

    Raises:
        TrainingError: a file of the dataset is damaged or contradictory, the list is that of a first release which
            lacked many clips, the target is there already, or the disk is too small; nothing is written then.
    """
    faults = Faults(choices.skip_bad)
    dataset = format.open(files, faults)
    _require_whole(format, len(dataset.clips), choices.partial)
    clips = in_split_order(dataset.clips)
    sentences = [sentence for clip in clips for sentence in clip.texts]
    text = open_text(choices.text, sentences) if sentences else None
    preparation = Preparation(dataset, np.dtype(choices.video_dtype), text)
    with StoreWriter(target, _facts(format, dataset, text)) as writer:
        written = _write_clips(writer, preparation, clips, faults, choices.workers, console)
        if not written:
            raise TrainingError(f"none of {len(clips)} clips could be used: {faults.skipped[0].reason}")
        if text:
            _write_texts(writer, text, written, console)
        for split in dict.fromkeys(split for clip in written for split in clip.splits):
            rows = [row for row, clip in enumerate(written) if split in clip.splits]
            writer.add_split(split, np.array(rows))
        writer.sources.update(_sources(format, files, dataset))
        if text:
            writer.sources |= {f"text: {name}": digest for name, digest in text.files.items()}
        if faults.skipped:
            writer.notes["left out"] = f"{len(faults.skipped)} clips, see skipped.csv"
            writer.add_file("skipped.csv", faults.csv())
    return faults.skipped


def in_split_order(clips: Sequence[Clip]) -> list[Clip]:
    """The clips of each split together, splits and clips in the order in which they are first listed."""
    place: dict[tuple[str, ...], int] = {}
    for clip in clips:
        place.setdefault(clip.splits[:1], len(place))
    return sorted(clips, key=lambda clip: place[clip.splits[:1]])


def halved_warning(format: Format, clips: int) -> str:
    """What to say of a list of as many clips as a first release with half of the rows."""
    whole = format.known.clips[0]
    return (
        f"{clips:,} clips are about half of the {whole:,} of {format.name}: this is the list as it was first released, "
        "which lacked half of its rows and cost its users 11 points of accuracy on AVE. Use the patched list"
    )


def _require_whole(format: Format, clips: int, partial: bool) -> None:
    if format.is_halved(clips) and not partial:
        raise TrainingError(f"{halved_warning(format, clips)}, or give --partial if this is what you want")


def _facts(format: Format, dataset: Dataset, text: TextReader | None) -> StoreFacts:
    features = {m: says for m, says in format.features.items() if m in dataset.readers}
    if text:
        features["text"] = text.says
    return StoreFacts.model_validate(
        {"name": format.name, "task": format.task, "classes": dataset.classes, "features": features}
    )


def _write_clips(
    writer: StoreWriter,
    preparation: Preparation,
    clips: Sequence[Clip],
    faults: Faults,
    workers: int,
    console: Console,
) -> list[Clip]:
    """The clips that are in the store, in the order of its rows."""
    written: list[Clip] = []
    seconds: Counter[tuple[str, str]] = Counter()
    with closing(preparation.of_all(clips, workers)) as coming:
        for clip, future in track(coming, "clips", total=len(clips), console=console):
            with faults.tolerated(f"clip '{clip.id}' ({clip.where})"):
                ready = future.result()
                if not written:
                    require_room(writer.target, ready, len(clips))
                rows = {name: array[None] for name, array in ready.arrays.items()}
                writer.append([clip.id], [clip.label], **rows)
                written.append(clip)
                seconds.update(_fitted(ready, preparation.dataset.seconds))
    for (modality, what), count in seconds.items():
        writer.notes[f"{modality} {what}"] = f"{count} clips"
    return written


def _fitted(ready: Ready, wanted: int) -> list[tuple[str, str]]:
    return [
        (modality, "repeated at the end" if found < wanted else "cut at the end")
        for modality, found in ready.seconds.items()
        if found != wanted
    ]


def require_room(target: Path, ready: Ready, clips: int) -> None:
    """Say at the first clip that the disk is too small for as many, not after hours.

    Raises:
        TrainingError: it is.
    """
    needed = clips * sum(array.nbytes for array in ready.arrays.values())
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise TrainingError(
            f"'{target}' needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "--video-dtype float16 halves the video"
        )


def _write_texts(writer: StoreWriter, text: TextReader, clips: Sequence[Clip], console: Console) -> None:
    owners = [(sentence, row) for row, clip in enumerate(clips) for sentence in clip.texts]
    items = iter([row for _, row in owners])
    blocks = embedded([sentence for sentence, _ in owners], text.embed)
    for vectors, words in track(blocks, "texts", total=-(-len(owners) // 1_024), console=console):
        writer.append_text(vectors, words, [next(items) for _ in words])
    writer.add_file("tokenizer.json", text.tokenizer_json.encode())


def _sources(format: Format, files: Files, dataset: Dataset) -> dict[str, str]:
    lists = {
        path.name: sha256_of_file(path)
        for part in format.parts
        if not part.folder
        for path in files.all(part.name)
    }
    return lists | {name: folder.sha256() for name, folder in dataset.folders.items()}
