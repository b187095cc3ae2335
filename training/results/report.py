"""Writes the tables where people read them: markdown, with the figures as JSON and a picture beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tessera.errors import TrainingError
from training.files import require_writable, write_whole
from training.plots.pictures import write_picture
from training.results.chart import results_figure
from training.results.job import Document
from training.results.table import markdown

BEGIN, END = "<!-- tables: written by the command below -->", "<!-- end of tables -->"
"""What the tables stand between."""


def require_report_path(out: Path) -> None:
    """Refuse a path early, before the trainings whose tables are to stand there.

    Raises:
        TrainingError: it cannot be written, or is a file of something else: it has no marks.
    """
    require_writable(out)
    if out.suffix in (".json", ".jsonl"):
        raise TrainingError(f"'{out}' is to be markdown; a {out.suffix} goes beside it")
    _around(out)


def write_report(documents: Sequence[Document], command: str, out: Path) -> None:
    """Fill the tables into `out`, between its marks where it has them: what people wrote around them stays.

    Raises:
        TrainingError: as `require_report_path`, or a file cannot be written.
    """
    before, after = _around(out)
    tables = [BEGIN, f"```console\n$ {command}\n```\n"]
    for number, document in enumerate(documents):
        picture = out.with_name(f"{out.stem}-{number}.png")
        write_picture(picture, results_figure(document))
        tables.append(f"{markdown(document)}\n![{document['title']}]({picture.name})\n")
    text = "\n".join([*tables, END])
    try:
        write_whole(out, f"{before}{text}{after}".encode())
        write_whole(out.with_suffix(".json"), json.dumps(documents, indent=1).encode())
    except OSError:
        raise TrainingError(f"'{out}' cannot be written") from None


def _around(out: Path) -> tuple[str, str]:
    """What stands before the begin mark and after the end mark."""
    try:
        written = out.read_text()
    except FileNotFoundError:
        return "# Results\n\n", "\n"
    except (OSError, UnicodeDecodeError):
        raise TrainingError(f"'{out}' cannot be read") from None
    before, begin, rest = written.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise TrainingError(
            f"'{out}' is there and says not where the tables go: put the lines '{BEGIN}' and '{END}' into it, "
            "between which everything is replaced, or name another file"
        )
    return before, after
