"""The generator in a process of its own, so that what it spends is not taken for what the server spends."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Self

from service.bench.load.generator import generate
from service.bench.load.plan import Load
from service.bench.load.result import LoadResult


class LoadProcess:
    """One process that sends one load after the other; a context manager."""

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def run(self, load: Load) -> LoadResult:
        """Send `load`, and wait for the answers.

        Raises:
            ValueError: the URL is not plain http.
        """
        return self._executor.submit(generate, load).result()
