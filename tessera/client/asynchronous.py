"""The client for asyncio: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Sized
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, assert_never

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.client.answers import Limit, Model, Tokens
from tessera.client.calls import DType, Options, TokenizeOptions
from tessera.client.connection import checked_address, connections, sent_headers
from tessera.client.errors import TesseraApiError
from tessera.client.files import Named, batches, progress_bar, tokenize_batch
from tessera.client.flows import Flow, Flows, Run, Send, Step, Wait
from tessera.client.retries import Retries
from tessera.client.sources import Source

Result = TypeVar("Result")


class AsyncClient:
    """A Tessera server at `url`, as `Client`, for one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 120.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        address = checked_address(url)
        self._flows = Flows(address, timeout, retries or Retries())
        self._http = httpx.AsyncClient(
            base_url=address, headers=sent_headers(headers, api_key), limits=connections()
        )

    async def tokenize(
        self, inputs: Source | Iterable[Source], **options: Unpack[TokenizeOptions]
    ) -> list[Tokens]:
        """The codes of each input; see `Client.tokenize`."""
        return await self._taken(self._flows.tokenize(inputs, Options(**options)))

    async def tokenize_partial(
        self, inputs: Source | Iterable[Source], **options: Unpack[TokenizeOptions]
    ) -> list[Tokens | TesseraApiError]:
        """As `tokenize`, with its error in the place of each bad input."""
        return await self._taken(self._flows.tokenize_partial(inputs, Options(**options)))

    async def tokenize_files(
        self,
        sources: Iterable[Source],
        *,
        progress: bool = True,
        concurrency: int = 4,
        **options: Unpack[TokenizeOptions],
    ) -> AsyncIterator[Named]:
        """Any number of files, each with its codes or its error; see `Client.tokenize_files`."""
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        options.setdefault("priority", "bulk")
        asked = Options(**options)
        limits = await self.limits()
        plan = batches(sources, limits)
        gate = asyncio.Semaphore(concurrency)
        waiting: deque[asyncio.Task[list[Named]]] = deque()

        async def through_the_gate(batch: Sequence[Source]) -> list[Named]:
            async with gate:
                return await self._taken(tokenize_batch(self._flows, batch, limits, asked))

        try:
            with progress_bar(
                len(sources) if isinstance(sources, Sized) else None, shown=progress
            ) as advance:
                while True:
                    while len(waiting) < 2 * concurrency and (
                        batch := await asyncio.to_thread(next, plan, None)
                    ):
                        waiting.append(asyncio.create_task(through_the_gate(batch)))
                    if not waiting:
                        return
                    for source, outcome in await waiting.popleft():
                        advance(outcome)
                        yield source, outcome
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def detokenize(
        self,
        codes: ArrayLike,
        *,
        model: str | None = None,
        dtype: DType = "float32",
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """The embeddings [N, Q] of `codes` [N, L]; see `Client.detokenize`."""
        return await self._taken(self._flows.detokenize(codes, model, dtype, timeout))

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """What is served."""
        return await self._taken(self._flows.models(timeout))

    async def limits(self, *, timeout: float | None = None) -> dict[str, Limit]:
        """How much the server takes, by name."""
        return await self._taken(self._flows.limits(timeout))

    async def ready(self, *, timeout: float | None = None) -> bool:
        """Whether a request sent now would be admitted and run; see `Client.ready`."""
        return await self._taken(self._flows.ready(timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _taken(self, flow: Flow[Result]) -> Result:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as done:
                result: Result = done.value
                return result
            answer = await self._take(step)

    async def _take(self, step: Step) -> Any:
        match step:
            case Send():
                try:
                    return await self._http.request(**step.arguments)
                except httpx.RequestError as error:
                    return error
            case Wait():
                return await asyncio.sleep(step.seconds)
            case Run():
                return await asyncio.to_thread(step.function)
            case _:
                assert_never(step)
