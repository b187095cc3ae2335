"""Many processes that read clips and keep what they read, one shard a clip."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from tessera.errors import TrainingError
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.manifest import ClipRow
from training.data.shards import Shards, save_shard
from training.workers import start_worker, worker_pool


def read_clips(
    rows: Sequence[ClipRow], shards: Shards, settings: ReaderSettings, workers: int
) -> Generator[tuple[ClipRow, str | None], None, None]:
    """Read `rows`, no two of one digest; yield each as it is finished, with why it cannot be read, if so.

    Closing it before its end stops the processes in the midst of their clips; what is finished is kept. No more than
    two clips a process are under way.

    Raises:
        TrainingError: a process died.
    """
    todo, running = iter(rows), dict[Future[str | None], ClipRow]()
    with worker_pool(workers, _start, settings) as pool:
        try:
            while True:
                for row in islice(todo, 2 * workers - len(running)):
                    running[pool.submit(_read, row, shards.path(row.digest))] = row
                if not running:
                    return
                finished = wait(running, return_when=FIRST_COMPLETED).done
                for future in [future for future in running if future in finished]:
                    fault = future.result()
                    yield running.pop(future), fault
        except BrokenProcessPool:
            names = ", ".join(f"'{row.id}'" for row in running.values())
            raise TrainingError(
                f"a process died while these clips were read: {names}; finished ones are kept. "
                f"Is the memory enough for --workers {workers}?"
            ) from None


_reader: ClipReader


def _start(settings: ReaderSettings) -> None:
    global _reader
    start_worker()
    _reader = ClipReader(settings)


def _read(row: ClipRow, path: Path) -> str | None:
    try:
        arrays = _reader.read(row)
    except TrainingError as error:
        return str(error)
    save_shard(path, arrays)
    return None
