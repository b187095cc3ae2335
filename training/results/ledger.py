"""The ledger: what finished jobs came to, a line of JSON each, in one file that is kept with the code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from tessera.errors import TrainingError
from training.files import require_writable
from training.results.job import Document, Job


class Ledger:
    """Scores by the key of their job. Lines are only ever added: a diff shows what a run has added."""

    def __init__(self, path: Path, console: Console) -> None:
        """Read what is there, if anything is; of two lines of one job the first counts.

        A last line that was cut off is removed, and the console told of it.

        Raises:
            TrainingError: it cannot be read or written, or another line is not that of a job.
        """
        require_writable(path)
        self._path = path
        self._scores: dict[str, Document] = {}
        try:
            with path.open("r+b") as file:
                self._read(file, console)
        except FileNotFoundError:
            return
        except OSError:
            raise TrainingError(f"'{path}' cannot be read and written") from None

    def scores(self, job: Job) -> Document | None:
        """What a job came to, if it is done."""
        return self._scores.get(job.key)

    def add(self, job: Job, scores: Document) -> None:
        """Write what a job came to, unless it is known; when this returns, it is on the disk.

        Raises:
            TrainingError: it cannot be written.
        """
        if job.key in self._scores:
            return
        fields = {"key": job.key, "setting": job.setting, "row": job.row, "seed": job.seed, "scores": scores}
        line = f"{json.dumps(fields)}\n".encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # By its path each time: git may have put another file there. Unbuffered: a line is one write.
            with self._path.open("ab", buffering=0) as file:
                whole = file.write(line) == len(line)
                os.fsync(file.fileno())
        except OSError:
            whole = False
        if not whole:
            raise TrainingError(f"'{self._path}' cannot be written; is the disk full?")
        self._scores[job.key] = scores

    def _read(self, file: BinaryIO, console: Console) -> None:
        *lines, last = file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not self._take(line):
                raise TrainingError(
                    f"line {number} of '{self._path}' is of no finished job; remove or mend it"
                )
        if not last:
            return
        if self._take(last):
            file.write(b"\n")
            return
        file.truncate(file.tell() - len(last))
        console.print(f"'{self._path}' ended in half a line, which is removed; its job is done again")

    def _take(self, line: bytes) -> bool:
        """Whether it is a whole line."""
        try:
            fields = json.loads(line)
        except ValueError:
            return False
        match fields:
            case {"key": str(key), "scores": dict(scores)}:
                self._scores.setdefault(key, scores)
                return True
        return False
