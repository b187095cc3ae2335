"""Writes the tables where people read them: markdown, with the figures as JSON and a picture beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tessera.errors import TrainingError
from training.files import write_whole
from training.plots.pictures import write_picture
from training.results.chart import results_figure
from training.results.job import Document
from training.results.table import markdown

_BEGIN, _END = "<!-- tables: written by the command above -->", "<!-- end of tables -->"


def write_report(documents: Sequence[Document], command: str, out: Path) -> None:
    """Fill the tables into `out`, between its marks where it has them: what people wrote around them stays.

    Raises:
        TrainingError: a file cannot be written.
    """
    tables = [f"```console\n$ {command}\n```\n", _BEGIN]
    for number, document in enumerate(documents):
        picture = out.with_name(f"{out.stem}-{number}.png")
        write_picture(picture, results_figure(document))
        tables.append(f"{markdown(document)}\n![{document['title']}]({picture.name})\n")
    text = "\n".join([*tables, _END])
    try:
        written = out.read_text() if out.exists() else ""
        write_whole(out, _filled(written, text).encode())
        write_whole(out.with_suffix(".json"), json.dumps(documents, indent=1).encode())
    except OSError:
        raise TrainingError(f"'{out}' cannot be written") from None


def _filled(written: str, tables: str) -> str:
    """`written` with its part from the command to the end mark replaced, or `tables` alone."""
    if _BEGIN not in written or _END not in written:
        return f"# Results\n\n{tables}\n"
    before, after = written.split(_BEGIN)[0], written.split(_END)[1]
    start = before.rindex("```console")
    return before[:start] + tables + after
