"""Many files: which go into one request, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tessera.client import calls
from tessera.client.answers import Limit, Tokens
from tessera.client.calls import Options
from tessera.client.errors import Fault, RequestRefused, TesseraApiError
from tessera.client.flows import Flow, Flows, Outcome, Run
from tessera.client.sources import Part, Source, opened, size_of

Named = tuple[Source, Outcome]

_MOST_INPUTS = 32
_MOST_BYTES = 512 * 2**10
"""Of a request of several files. Larger ones go alone, as a raw body, which costs a server less than a part does."""
_OVERHEAD = 1024
"""Bytes of a request beside the content of a file."""
_CROWDED = {"body_too_large", "too_many_inputs", "too_many_segments"}
"""Errors of files that may be good if they come alone."""


def batches(sources: Iterable[Source], limits: Mapping[str, Limit]) -> Iterator[list[Source]]:
    """`sources`, in order, cut into requests that a server with `limits` takes."""
    most_inputs = min(_MOST_INPUTS, _value(limits, "max_inputs"))
    most_bytes = min(_MOST_BYTES, _value(limits, "max_body_bytes"))
    batch: list[Source] = []
    held = 0
    for source in sources:
        size = _size(source) + _OVERHEAD
        if batch and (len(batch) >= most_inputs or held + size > most_bytes):
            yield batch
            batch, held = [], 0
        batch.append(source)
        held += size
    if batch:
        yield batch


def tokenize_batch(
    flows: Flows, sources: Sequence[Source], limits: Mapping[str, Limit], options: Options
) -> Flow[list[Named]]:
    """What becomes of each of `sources`, which are sent in one request; what fails for the others' sake goes alone."""

    def open_each() -> list[Part | TesseraApiError | OSError]:
        return [_opened(source, limits) for source in sources]

    parts: list[Part | TesseraApiError | OSError] = yield Run(open_each)
    good = [part for part in parts if isinstance(part, Part)]
    answered = iter((yield from _sent(flows, good, options)))
    outcomes: list[Outcome] = []
    for part in parts:
        outcome = next(answered) if isinstance(part, Part) else part
        if isinstance(part, Part) and len(good) > 1 and _is_crowded(outcome):
            (outcome,) = yield from _sent(flows, [part], options)
        outcomes.append(outcome)
    return list(zip(sources, outcomes, strict=True))


def _sent(flows: Flows, parts: list[Part], options: Options) -> Flow[list[Tokens | TesseraApiError]]:
    if not parts:
        return []
    try:
        return (yield from flows.exchange(calls.tokenize(parts, options, partial=True)))
    except TesseraApiError as error:
        return [error for _ in parts]


def _is_crowded(outcome: Outcome) -> bool:
    return isinstance(outcome, TesseraApiError) and outcome.code in _CROWDED


def _opened(source: Source, limits: Mapping[str, Limit]) -> Part | TesseraApiError | OSError:
    try:
        size, limit = size_of(source), limits.get("max_body_bytes")
        if limit is not None and size > limit.value:
            return _too_large(size, limit)
        return opened(source)
    except OSError as error:
        return error


def _too_large(size: int, limit: Limit) -> TesseraApiError:
    return RequestRefused(
        Fault(
            code="body_too_large",
            message=f"a file of {size} bytes, a request may have {limit.value:.10g}",
            limit=limit.value,
            actual=size,
            setting=limit.setting,
        )
    )


def _size(source: Source) -> int:
    try:
        return size_of(source)
    except OSError:
        return 0  # reading it will say why


def _value(limits: Mapping[str, Limit], name: str) -> float:
    return limits[name].value if name in limits else inf


class Advance(Protocol):
    """Says that one more is done, and whether it failed."""

    def __call__(self, outcome: Outcome) -> None: ...


@contextmanager
def progress_bar(total: int | None, *, shown: bool) -> Iterator[Advance]:
    """A bar on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("tokenizing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    failed = 0
    with Progress(
        *columns,
        TextColumn("{task.fields[failed]}"),
        console=console,
        disable=not (shown and console.is_terminal),
    ) as progress:
        task = progress.add_task("", total=total, failed="")

        def advance(outcome: Outcome) -> None:
            nonlocal failed
            failed += not isinstance(outcome, Tokens)
            progress.update(task, advance=1, failed=f"[red]{failed} failed" if failed else "")

        yield advance
