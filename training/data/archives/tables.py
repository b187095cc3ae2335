"""The lists of clips, classes and prompts: csv, tab-separated, json and plain lines; errors name file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.errors import TrainingError
from training.data.archives.faults import BadClip


@dataclass(frozen=True)
class Row:
    """One line of a table, by column and by position."""

    where: str
    cells: tuple[str, ...]
    by_column: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.by_column[column]


def read_table(path: Path, columns: Sequence[str] = (), delimiter: str = ",") -> list[Row]:
    """The rows under the header, cells stripped of surrounding space; empty lines are passed over.

    Raises:
        TrainingError: the file cannot be read, is empty, lacks one of `columns`, or a line has another number of
            cells than the header.
    """
    lines = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        numbered = [(lines.line_num, tuple(cell.strip() for cell in cells)) for cells in lines if cells]
    except csv.Error:
        raise TrainingError(f"{path.name} line {lines.line_num}: quotes that do not fit each other") from None
    if missing := [column for column in columns if column not in header]:
        raise TrainingError(
            f"{path.name} has no column '{missing[0]}'; it has: {', '.join(header) or 'none'}"
        )
    for number, cells in numbered:
        if len(cells) != len(header):
            raise TrainingError(
                f"{path.name} line {number}: {len(cells)} cells, the header has {len(header)}"
            )
    if not numbered:
        raise TrainingError(f"{path.name} lists nothing")
    return [
        Row(f"{path.name} line {number}", cells, dict(zip(header, cells, strict=True)))
        for number, cells in numbered
    ]


@dataclass(frozen=True)
class Classes:
    """The names of classes in the order of their numbers."""

    names: tuple[str, ...]
    source: str

    def number(self, name: str) -> int:
        """That of a class.

        Raises:
            BadClip: there is no such class.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise BadClip(f"class '{name}' is not in {self.source}") from None


def read_classes(path: Path) -> Classes:
    """A list of classes, one a line.

    Raises:
        TrainingError: it cannot be read, is empty, or a line is empty, holds a tab or repeats another.
    """
    lines = _text(path).rstrip().splitlines()
    names = tuple(line.strip() for line in lines)
    for number, name in enumerate(names, start=1):
        where = f"{path.name} line {number}"
        if not name:
            raise TrainingError(f"{where} is empty; a class is its line number, so none may be missing")
        if "\t" in name:
            raise TrainingError(f"{where}: {name!r} holds a tab; one class a line is expected")
        if names.index(name) < number - 1:
            raise TrainingError(f"{where}: '{name}' stands in line {names.index(name) + 1} already")
    if not names:
        raise TrainingError(f"{path.name} names no classes")
    return Classes(names, path.name)


def read_prompts(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """The sentence of each class: column `label` and the second column.

    Raises:
        TrainingError: the table is malformed, or one of `classes` has no sentence or two.
    """
    prompts: dict[str, str] = {}
    for row in read_table(path, ["label"]):
        if len(row.cells) < 2 or not row.cells[1]:
            raise TrainingError(f"{row.where}: class '{row['label']}' has no sentence in the second column")
        if row["label"] in prompts:
            raise TrainingError(f"{row.where}: class '{row['label']}' has a sentence already")
        prompts[row["label"]] = row.cells[1]
    if missing := [name for name in classes if name not in prompts]:
        raise TrainingError(
            f"{path.name} has no sentence for class '{missing[0]}' and {len(missing) - 1} more"
        )
    return prompts


def read_json(path: Path) -> Any:
    """What a json file holds.

    Raises:
        TrainingError: it cannot be read, or is no json.
    """
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path.name} line {error.lineno}: this is no json") from None


def entries(values: object, path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> list[Row]:
    """The objects of a json list as rows, with `fields` as text; empty text is none.

    Raises:
        TrainingError: it is no list of objects, or an object lacks a field or has it of another type.
    """
    if not isinstance(values, list) or not values:
        raise TrainingError(f"{path.name} holds no list of entries")
    rows = []
    for number, value in enumerate(values, start=1):
        where = f"{path.name} entry {number}"
        for name, kind in fields.items():
            found = value.get(name) if isinstance(value, dict) else None
            if not isinstance(found, kind) or isinstance(found, bool) or found == "":
                raise TrainingError(f"{where} has no usable '{name}'")
        cells = {name: str(value[name]).strip() for name in fields}
        rows.append(Row(where, tuple(cells.values()), cells))
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrainingError(f"'{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TrainingError(f"'{path}' is no text in UTF-8") from None
