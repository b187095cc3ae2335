"""A manifest of raw clips: one row a clip, as CSV with a header or as JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.bundle import sha256_of
from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from training.data.store_manifest import Task

COLUMNS = ("id", "path", "audio", "video", "caption", "label", "split")

_SPLIT = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class ClipRow:
    """One clip. What its manifest has no column of is None or empty."""

    id: str
    audio: Path | None = None
    video: Path | None = None
    captions: tuple[str, ...] = ()
    label: str | None = None
    split: str | None = None

    @property
    def digest(self) -> str:
        """Of all that its features are made from, its files by their names; labels and splits have no part in it."""
        files = [None if path is None else str(path.absolute()) for path in (self.audio, self.video)]
        return sha256_of(json.dumps([*files, *self.captions]).encode())


@dataclass(frozen=True)
class ClipManifest:
    """The rows of a manifest, which all have the same modalities."""

    rows: tuple[ClipRow, ...]
    modalities: tuple[Modality, ...]
    unused: tuple[str, ...]  # columns that mean nothing here
    sha256: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the alphabet."""
        return tuple(sorted({row.label for row in self.rows if row.label is not None}))

    @property
    def task(self) -> Task:
        """What its features can be used for."""
        if self.classes:
            return "classification"
        return "retrieval" if "text" in self.modalities else "features"


def read_manifest(path: Path) -> ClipManifest:
    """Read a `.csv` or `.jsonl` file with the columns `id`, `path`, `audio`, `video`, `caption`, `label`, `split`.

    `path` is a file with sound and picture, `audio` and `video` are files for the one or the other. Paths are
    relative to the manifest. A clip without `id` has the name of its file. Captions of JSON lines may be lists.

    Raises:
        TrainingError: it cannot be read, or a row is not as it should be; the message names the line.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError:
        raise TrainingError(f"the manifest '{path}' cannot be read") from None
    except UnicodeDecodeError:
        raise TrainingError(f"the manifest '{path}' is not UTF-8 text") from None
    if path.suffix not in (".csv", ".jsonl"):
        raise TrainingError(f"the manifest '{path}' is to be a .csv or a .jsonl file")
    lines = list(_csv_lines(path, text) if path.suffix == ".csv" else _json_lines(path, text))
    if not lines:
        raise TrainingError(f"the manifest '{path}' names no clips")
    found = {column for _, fields in lines for column, value in fields.items() if value}
    if not found & {"path", "audio", "video", "caption"}:
        raise TrainingError(f"the manifest '{path}' has no column path, audio, video or caption")
    rows = tuple(_row(where, fields, found, path.parent) for where, fields in lines)
    _require_unique(rows, [where for where, _ in lines])
    modalities = tuple(m for m in MODALITIES if found & _columns_of(m))
    unused = dict.fromkeys(column for _, fields in lines for column in fields if column not in COLUMNS)
    return ClipManifest(rows, modalities, tuple(unused), sha256_of(data))


def _columns_of(modality: Modality) -> set[str]:
    return {"caption"} if modality == "text" else {modality, "path"}


def _csv_lines(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise TrainingError(f"{path.name}: the header names a column twice")
        for fields in reader:
            where = f"{path.name}, line {reader.line_num}"
            if fields and len(fields) != len(header):
                raise TrainingError(f"{where}: {len(fields)} fields, the header has {len(header)}")
            if fields:
                yield where, dict(zip(header, fields, strict=True))
    except csv.Error:
        raise TrainingError(f"{path.name}, line {reader.line_num}: not CSV") from None


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            fields = json.loads(line)
        except ValueError:
            raise TrainingError(f"{where}: not JSON") from None
        if not isinstance(fields, dict):
            raise TrainingError(f"{where}: expected a JSON object")
        yield where, fields


def _row(where: str, fields: Mapping[str, Any], found: set[str], folder: Path) -> ClipRow:
    text = {column: _text(where, column, fields.get(column)) for column in COLUMNS if column != "caption"}
    captions = _captions(where, fields.get("caption"))
    media: dict[str, Path | None] = {}
    for modality in ("audio", "video"):
        # What a row does not say of one modality, its file with both does.
        value = text[modality] or text["path"]
        if found & {modality, "path"} and value is None:
            raise TrainingError(f"{where}: no file for {modality}, which other clips have")
        media[modality] = None if value is None else folder / value
    if "caption" in found and not captions:
        raise TrainingError(f"{where}: no caption, which other clips have")
    if text["split"] is not None and not _SPLIT.fullmatch(text["split"]):
        raise TrainingError(f"{where}: split '{text['split']}' is not made of letters and digits")
    first = media["audio"] or media["video"]
    name = text["id"] or (first.stem if first else where.rpartition(" ")[2])
    return ClipRow(name, media["audio"], media["video"], captions, text["label"], text["split"])


def _text(where: str, column: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or isinstance(value, bool) or "\0" in str(value):
        raise TrainingError(f"{where}: '{column}' is no text")
    return str(value)


def _captions(where: str, value: object) -> tuple[str, ...]:
    captions = value if isinstance(value, list) else [] if value in (None, "") else [value]
    if not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise TrainingError(f"{where}: 'caption' is neither a text nor a list of texts")
    return tuple(captions)


def _require_unique(rows: tuple[ClipRow, ...], places: list[str]) -> None:
    seen: dict[str, str] = {}
    for row, where in zip(rows, places, strict=True):
        if row.id in seen:
            raise TrainingError(
                f"{where}: clip '{row.id}' is also in {seen[row.id]}; give each clip an id of its own"
            )
        seen[row.id] = where
